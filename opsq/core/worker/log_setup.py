"""The log of a worker's process, main or child: the user's own, or opsq's, which what is printed goes to too."""

from __future__ import annotations

from opsq import logs
from opsq.settings import Settings
from opsq.signals import setup_logging


def set_up_logs(settings: Settings, hostname: str) -> bool:
    """Set up the log, unless the user does; whether standard output and error are to go there.

    Source: Celery, whose signal ``setup_logging`` leaves all of it to who connects it.
    """
    if setup_logging.receivers:
        setup_logging.send(sender=None, loglevel=settings.log_level, logfile=None, format=None, colorize=None)
        return False
    logs.setup(logs.config_from(settings, worker=hostname))
    return settings.worker_redirect_stdouts
