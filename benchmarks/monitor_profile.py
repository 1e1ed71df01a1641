"""``opsq monitor`` with its writer under a profiler: ``python -m benchmarks.monitor_profile FILE WORDS…``."""

from __future__ import annotations

import cProfile
import sys

from opsq.cli.main import main
from opsq.events.writer import Writer


def run() -> int:
    """Run the command line; the profile is written when it ends."""
    file, words = sys.argv[1], sys.argv[2:]
    whole = Writer._main

    def profiled(self: Writer) -> None:
        profile = cProfile.Profile()
        profile.runcall(whole, self)
        profile.dump_stats(file)

    Writer._main = profiled  # type: ignore[method-assign]  # the one way in from outside
    main(words)
    return 0


if __name__ == "__main__":
    sys.exit(run())
