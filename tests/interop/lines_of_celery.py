"""Run lines of ``celery``'s command line, one after the other in this process; print what came of them as JSON.

Standard input: a JSON list of lists of words.
"""

from __future__ import annotations

import json
import sys

from celery.bin.celery import celery
from click.testing import CliRunner

found = []
for words in json.load(sys.stdin):
    done = CliRunner().invoke(celery, ["-A", "fleet_app", *words])
    found.append([done.exit_code, done.output])
print("\n" + json.dumps(found))
