"""What Celery, now and before version 4, calls our settings: data, and the rule that reads it.

Today's names are Celery's own. The names from before Celery 4 are in upper case; most are today's
with ``CELERY_`` in front, the rest are in ``RENAMED``. Using one gives a notice, not a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from opsq.settings import OPTIONS

ENVIRONMENT: Final[Mapping[str, str]] = {
    "CELERY_BROKER_URL": "broker_url",
    "CELERY_BROKER_READ_URL": "broker_read_url",
    "CELERY_BROKER_WRITE_URL": "broker_write_url",
    "CELERY_RESULT_BACKEND": "result_backend",
    "CELERY_CUSTOM_WORKER_POOL": "worker_pool",
    "CELERY_WORKER_REVOKES_MAX": "worker_revokes_max",
    "CELERY_WORKER_REVOKE_EXPIRES": "worker_revoke_expires",
    "CELERY_WORKER_SUCCESSFUL_MAX": "worker_successful_max",
    "CELERY_WORKER_SUCCESSFUL_EXPIRES": "worker_successful_expires",
    "CELERY_SKIP_CHECKS": "django_skip_checks",
    "AUTOSCALE_KEEPALIVE": "autoscale_keepalive",
    "C_FORCE_ROOT": "worker_allow_root_with_pickle",
    "REMAP_SIGTERM": "worker_remap_sigterm",
}
"""Environment variables of Celery that opsq honours; ``OPSQ_…`` for the same setting wins."""

RENAMED: Final[Mapping[str, str]] = {
    "BROKER_BACKEND": "broker_transport",
    "CASSANDRA_COLUMN_FAMILY": "cassandra_table",
    "CELERYBEAT_LOG_FILE": "beat_logfile",
    "CELERYBEAT_MAX_LOOP_INTERVAL": "beat_max_loop_interval",
    "CELERYBEAT_PID_FILE": "beat_pidfile",
    "CELERYBEAT_SCHEDULE": "beat_schedule",
    "CELERYBEAT_SCHEDULER": "beat_scheduler",
    "CELERYBEAT_SCHEDULE_FILENAME": "beat_schedule_filename",
    "CELERYBEAT_SYNC_EVERY": "beat_sync_every",
    "CELERYD_AGENT": "worker_agent",
    "CELERYD_AUTOSCALER": "worker_autoscaler",
    "CELERYD_CONCURRENCY": "worker_concurrency",
    "CELERYD_CONSUMER": "worker_consumer",
    "CELERYD_FORCE_HIJACK_ROOT_LOGGER": "worker_hijack_root_logger",
    "CELERYD_HIJACK_ROOT_LOGGER": "worker_hijack_root_logger",
    "CELERYD_LOG_COLOR": "worker_log_color",
    "CELERYD_LOG_FILE": "worker_logfile",
    "CELERYD_LOG_FORMAT": "worker_log_format",
    "CELERYD_MAX_MEMORY_PER_CHILD": "worker_max_memory_per_child",
    "CELERYD_MAX_TASKS_PER_CHILD": "worker_max_tasks_per_child",
    "CELERYD_PID_FILE": "worker_pidfile",
    "CELERYD_POOL": "worker_pool",
    "CELERYD_POOL_PUTLOCKS": "worker_pool_putlocks",
    "CELERYD_POOL_RESTARTS": "worker_pool_restarts",
    "CELERYD_PREFETCH_MULTIPLIER": "worker_prefetch_multiplier",
    "CELERYD_STATE_DB": "worker_state_db",
    "CELERYD_TASK_LOG_FORMAT": "worker_task_log_format",
    "CELERYD_TASK_SOFT_TIME_LIMIT": "task_soft_time_limit",
    "CELERYD_TASK_TIME_LIMIT": "task_time_limit",
    "CELERYD_TIMER": "worker_timer",
    "CELERYD_TIMER_PRECISION": "worker_timer_precision",
    "CELERYD_WORKER_LOST_WAIT": "worker_lost_wait",
    "CELERY_ACKS_LATE": "task_acks_late",
    "CELERY_ALWAYS_EAGER": "task_always_eager",
    "CELERY_AMQP_TASK_RESULT_EXPIRES": "result_expires",
    "CELERY_ANNOTATIONS": "task_annotations",
    "CELERY_CREATE_MISSING_QUEUES": "task_create_missing_queues",
    "CELERY_DEFAULT_DELIVERY_MODE": "task_default_delivery_mode",
    "CELERY_DEFAULT_EXCHANGE": "task_default_exchange",
    "CELERY_DEFAULT_EXCHANGE_TYPE": "task_default_exchange_type",
    "CELERY_DEFAULT_PRIORITY": "task_default_priority",
    "CELERY_DEFAULT_QUEUE": "task_default_queue",
    "CELERY_DEFAULT_RATE_LIMIT": "task_default_rate_limit",
    "CELERY_DEFAULT_ROUTING_KEY": "task_default_routing_key",
    "CELERY_DISABLE_RATE_LIMITS": "worker_disable_rate_limits",
    "CELERY_EAGER_PROPAGATES": "task_eager_propagates",
    "CELERY_EAGER_PROPAGATES_EXCEPTIONS": "task_eager_propagates",
    "CELERY_ENABLE_REMOTE_CONTROL": "worker_enable_remote_control",
    "CELERY_IGNORE_RESULT": "task_ignore_result",
    "CELERY_MAX_CACHED_RESULTS": "result_cache_max",
    "CELERY_MESSAGE_COMPRESSION": "task_compression",
    "CELERY_QUEUES": "task_queues",
    "CELERY_QUEUE_MAX_PRIORITY": "task_queue_max_priority",
    "CELERY_REDIRECT_STDOUTS": "worker_redirect_stdouts",
    "CELERY_REDIRECT_STDOUTS_LEVEL": "worker_redirect_stdouts_level",
    "CELERY_REJECT_ON_WORKER_LOST": "task_reject_on_worker_lost",
    "CELERY_RESULT_DBURI": "database_url",
    "CELERY_RESULT_DB_SHORT_LIVED_SESSIONS": "database_short_lived_sessions",
    "CELERY_RESULT_DB_TABLENAMES": "database_table_names",
    "CELERY_RESULT_ENGINE_OPTIONS": "database_engine_options",
    "CELERY_ROUTES": "task_routes",
    "CELERY_SEND_EVENTS": "worker_send_task_events",
    "CELERY_SEND_TASK_SENT_EVENT": "task_send_sent_event",
    "CELERY_STORE_ERRORS_EVEN_IF_IGNORED": "task_store_errors_even_if_ignored",
    "CELERY_TASK_RESULT_EXPIRES": "result_expires",
    "CELERY_TRACK_STARTED": "task_track_started",
}

REMOVED: Final[Mapping[str, str]] = {
    "CELERY_BROADCAST_EXCHANGE": "remote control uses control_exchange",
    "CELERY_BROADCAST_EXCHANGE_TYPE": "remote control always uses a fanout exchange",
    "CELERY_BROADCAST_QUEUE": "control queues are named after the node",
    "CELERY_DB_REUSE_MAX": "Django's CONN_MAX_AGE says how long a database connection is kept",
    "CELERY_CHORD_PROPAGATES": "a chord whose header failed always fails",
    "CELERYD_ETA_SCHEDULER": "there is one scheduler for tasks with an ETA",
    "CELERYD_ETA_SCHEDULER_PRECISION": "tasks with an ETA start on time",
    "CELERYMON_LOG_FORMAT": "that monitor no longer exists",
}
"""Names that have had no effect for years, and what happens instead."""

UPPER_FAMILIES: Final = ("BROKER_", "CASSANDRA_")
"""Families whose old names are today's in upper case, without ``CELERY_``."""

OUR_FAMILIES: Final = ("TASK_", "WORKER_", "RESULT_", "BEAT_", "EVENT_", "CONTROL_")
"""Families in which an upper-case name of a setting is a mistake, not somebody else's key."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a key was understood.

    name: today's setting, None when the key names none. notice: what to tell the operator, empty
    when there is nothing. candidates: names to compare a misspelt key with. foreign: the key is
    not in a family of ours, so it is nobody's mistake.
    """

    name: str | None = None
    notice: str = ""
    candidates: tuple[str, ...] = ()
    foreign: bool = False


def read_key(key: str, namespace: str = "") -> Reading:
    """Say which setting ``key`` names in an object shared with others.

    namespace: prefix that marks our keys, such as "CELERY"; then all other keys are foreign.
    """
    if namespace:
        return _read_namespaced(key, namespace.rstrip("_").upper() + "_")
    if key in OPTIONS:
        return Reading(key)
    if key.isupper():
        return _read_old(key)
    return Reading(candidates=tuple(OPTIONS), foreign=not key.islower())


def _read_namespaced(key: str, prefix: str) -> Reading:
    upper = key.upper()
    if not upper.startswith(prefix):
        return Reading(foreign=True)
    name = upper[len(prefix) :].lower()
    if name in OPTIONS:
        return Reading(name)
    old = _read_old(upper)
    if old.name or old.notice:
        return old
    return Reading(candidates=tuple(prefix + option.upper() for option in OPTIONS))


def _read_old(key: str) -> Reading:
    if key in REMOVED:
        return Reading(notice=f"{key} no longer does anything: {REMOVED[key]}")
    name = old_name(key)
    if name is not None:
        return Reading(name, notice=f"{key} is now {name}")
    if key.startswith(OUR_FAMILIES) and key.lower() in OPTIONS:
        return Reading(candidates=(key.lower(),))  # Celery ignores it without a word
    return Reading(candidates=old_names())


def old_name(key: str) -> str | None:
    """Return today's name of an old upper-case name, None when it is not one."""
    if key in RENAMED:
        return RENAMED[key]
    if key.startswith("CELERY_") and key[7:].lower() in OPTIONS:
        return key[7:].lower()
    if key.startswith(UPPER_FAMILIES) and key.lower() in OPTIONS:
        return key.lower()
    return None


def old_names() -> tuple[str, ...]:
    """Every old name that is accepted."""
    plain = [name.upper() for name in OPTIONS]
    families = [name for name in plain if name.startswith(UPPER_FAMILIES)]
    return (*RENAMED, *families, *("CELERY_" + name for name in plain))
