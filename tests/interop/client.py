"""A client of either library: runs the cases it is asked for on standard input, one JSON line each.

Question: ``[case, *arguments]``. Answer: ``{"value": …}``, or ``{"error": traceback}``.
"""

from __future__ import annotations

import json
import sys
import traceback

import canvas_cases
import cases
import fleet_app
import watching


def main() -> None:
    """Answer until the questions end."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            function = getattr(cases, name, None) or getattr(canvas_cases, name, None) or getattr(watching, name)
            answer = {"value": function(fleet_app, *arguments)}
        except BaseException:  # noqa: BLE001 boundary: whatever goes wrong is the answer
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
