"""Runs under Celery's interpreter: reads cases as JSON lines, answers with the next instants of its crontab."""

import json
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from celery import Celery
from celery.schedules import crontab

for line in sys.stdin:
    case = json.loads(line)
    app = Celery("cron", set_as_current=False)
    app.conf.timezone = case["zone"]
    found, at = [], case["after"]
    for _ in range(case["count"]):
        now = datetime.fromtimestamp(at, ZoneInfo(case["zone"]))
        cron = crontab(*case["fields"], nowfun=lambda now=now: now, app=app)
        left = cron.remaining_estimate(now)
        at = (now.astimezone(UTC) + left + timedelta(microseconds=1)).timestamp() // 1
        found.append(at)
    print(json.dumps(found), flush=True)
