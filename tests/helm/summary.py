"""``python -m tests.helm.summary``: render and validate every set of values once more; one JSON object."""

from __future__ import annotations

import json
import sys

from tests.helm.chart import VALUES, invalid, render, run_helm


def main() -> int:
    """Print the object; 1 when a manifest is invalid."""
    sets = {values.stem: render(values) for values in VALUES}
    faults = [f"{name}: {fault}" for name, manifests in sets.items() for fault in invalid(manifests)]
    version = run_helm("version", "--short").stdout.strip()
    manifests = sum(map(len, sets.values()))
    print(json.dumps({"helm": version, "value_sets": len(sets), "manifests": manifests, "invalid": faults}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
