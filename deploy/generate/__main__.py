"""``python -m deploy.generate``: write every generated file; ``--check`` only names those that are out of date."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from deploy.generate.dashboards import DASHBOARDS, dashboard
from deploy.generate.rule_tests import rule_tests
from deploy.generate.rules import rules
from deploy.generate.schema import values_schema

HERE: Final = Path(__file__).resolve().parent.parent
_CHART: Final = HERE / "helm" / "opsq"
_WRITTEN: Final = "# Written by `make docs` from deploy/generate/rules.py; change it there.\n"


def files() -> Iterator[tuple[Path, str]]:
    """Yield every generated file with what belongs into it."""
    yield _CHART / "values.schema.json", _json(values_schema())
    for board in DASHBOARDS:
        text = _json(dashboard(board))
        yield HERE / "grafana" / f"{board.uid}.json", text
        yield _CHART / "files" / "dashboards" / f"{board.uid}.json", text
    text = _WRITTEN + yaml.safe_dump(rules(), sort_keys=False, width=120, allow_unicode=True)
    yield HERE / "prometheus" / "rules.yaml", text
    yield _CHART / "files" / "rules.yaml", text
    tests = yaml.safe_dump(rule_tests(), sort_keys=False, width=120, allow_unicode=True)
    yield HERE / "prometheus" / "rules_test.yaml", _WRITTEN + tests


def stale() -> list[str]:
    """Name every generated file whose content is not what would be written now."""
    return [str(path) for path, text in files() if not path.exists() or path.read_text() != text]


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main(words: list[str]) -> int:
    """Write or check; the exit code."""
    if words == ["--check"]:
        old = stale()
        print("\n".join(f"out of date: {path}" for path in old), end="\n" if old else "")
        return 1 if old else 0
    for path, text in files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
