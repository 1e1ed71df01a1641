"""``python -m benchmarks NAME [options] --json``: measure one thing, print one JSON object as the last line."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

from benchmarks import (
    autoscale,
    autoscale_live,
    cpu,
    enqueue,
    events_cost,
    filling,
    fold,
    history,
    idle,
    latency,
    limits,
    live,
    memory,
    metrics,
    monitor,
    pages,
    pss,
    rates,
    site,
    slots,
    startup,
    throughput,
)
from benchmarks.peers import contest

BENCHMARKS = {
    "throughput": throughput,
    "enqueue": enqueue,
    "latency": latency,
    "startup": startup,
    "idle": idle,
    "slots": slots,
    "memory": memory,
    "cpu": cpu,
    "pss": pss,
    "rates": rates,
    "limits": limits,
    "history": history,
    "live": live,
    "events_cost": events_cost,
    "fold": fold,
    "metrics": metrics,
    "monitor": monitor,
    "pages": pages,
    "peers": contest,
    "autoscale": autoscale,
    "autoscale_live": autoscale_live,
}
POOLS = sorted(filling.DEFAULT_SLOTS)
# What `all` runs, each in a process of its own so that none warms up the next.
ALL: tuple[tuple[str, ...], ...] = (
    *(("throughput", "--pool", pool) for pool in POOLS),
    ("throughput", "--broker", "memory"),
    ("enqueue",),
    ("enqueue", "--batch"),
    *(("latency", "--pool", pool) for pool in POOLS),
    *(("startup", "--pool", pool) for pool in POOLS),
    *(("idle", "--pool", pool) for pool in POOLS),
    *(("slots", "--pool", pool) for pool in POOLS),
    ("memory",),
    ("cpu",),
    ("pss",),
    *(("rates", "--pool", pool) for pool in ("prefork", "threads")),
    ("limits",),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, measure, print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    names.add_parser("all", help="every benchmark at its usual size")
    for name, module in BENCHMARKS.items():
        sub = names.add_parser(name, help=(module.__doc__ or "").splitlines()[0], description=module.__doc__)
        module.add_options(sub)
        sub.add_argument("--json", action="store_true", help="print only the JSON object")
    options = parser.parse_args(arguments)
    if options.name == "all":
        return max(subprocess.call([sys.executable, "-m", "benchmarks", *words, "--json"]) for words in ALL)
    try:
        result = {"benchmark": options.name} | BENCHMARKS[options.name].measure(options)
    except site.CannotMeasure as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if not options.json:
        for key, value in result.items():
            print(f"{key:>14}  {value}")
    site.print_result(result | {"machine": site.machine()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
