"""Every setting there is: one frozen record, whose fields are the table.

Names, and defaults unless a row says ``celery=``, are Celery's. Documentation, environment names,
validation and ``opsq config`` are derived from the rows; a setting that is not here does not exist.
Made by ``settings_load.load``, which checks every value; a ``Settings()`` made by hand holds the
defaults. Nothing here reads the environment or a file.
"""

# ruff: noqa: E501  (one row, one line)
from __future__ import annotations

import dataclasses
import os.path
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import quote

from opsq.masking import Secret
from opsq.settings_options import OptionInfo, option, option_info, shown, table

_MIB: Final = 1024 * 1024
_OTHER_STORE: Final = "opsq does not ship this result backend yet"
_DAEMON: Final = "let systemd, a container or `opsq multi` run the process instead"
_FIXED_PART: Final = "this part of a worker is extended through bootsteps instead"


@table
class Settings:
    """All settings of one process. Thread: any; nothing here changes.

    Durations are seconds unless the name says otherwise. ``repr`` hides every secret.
    """

    # fmt: off
    # ---- general and content
    app: str | None = option(default=None, doc="Where the application object is, as `module:attribute`; `-A` on the command line.")
    data_dir: str = option(default=".opsq", doc="Folder of the embedded broker, results and history; relative to where opsq starts.")
    accept_content: tuple[str, ...] = option(default=("json",), doc="Serializer names or MIME types that this process decodes; anything else is refused unread.")
    enable_utc: bool = option(default=True, doc="Dates in messages are UTC; off means local time in `timezone`.")
    extra_compressions: tuple[str, ...] = option(default=(), doc="Compressions besides those of opsq: `module:NAME`, or the name of an entry point `opsq.compressions`.")
    extra_serializers: tuple[str, ...] = option(default=(), doc="Serializers besides those of opsq: `module:NAME`, or the name of an entry point `opsq.serializers`.")
    django_skip_checks: bool = option(default=False, doc="Django's system checks are not run before its tasks are imported.")
    imports: tuple[str, ...] = option(default=(), doc="Modules a worker imports at start so that their tasks are registered.")
    include: tuple[str, ...] = option(default=(), doc="More modules to import, added to `imports`; `-I` on the command line.")
    override_backends: dict[str, object] = option(default={}, doc="Result backends of your own: URL scheme to class path.")
    timezone: object = option(default=None, doc="Zone name for schedules and for dates without one; none means UTC, or local time when `enable_utc` is off.")
    message_max_bytes: int = option(default=64 * _MIB, min=1024, unit="bytes", doc="Largest message body that is read; a bigger one is rejected and counted.")
    message_max_decompressed_bytes: int = option(default=256 * _MIB, min=1024, unit="bytes", doc="Largest body after decompression; guards against compression bombs.")
    message_max_depth: int = option(default=100, min=4, max=900, doc="Deepest nesting accepted in a message or a canvas.")
    log_format: str = option(default="console", choices=("console", "json"), doc="Log lines for people, or one JSON object per line.")
    log_level: str = option(default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), doc="Least severe level that is logged.")
    log_repeat_window: float = option(default=30.0, min=0, unit="s", doc="Identical log lines of opsq itself within this time collapse into one with a count; 0 shows all.")
    log_repeat_limit: int = option(default=3, min=1, unit="lines", doc="Identical log lines shown in a window before the rest are only counted.")

    # ---- broker
    broker_channel_error_retry: bool = option(default=False, doc="Also reconnect after an error that closes only the channel.", inert="opsq always does")
    broker_connection_max_retries: int | None = option(default=100, min=0, unit="attempts", doc="Attempts to reconnect before giving up; none or 0 means for ever.")
    broker_connection_retry: bool = option(default=True, doc="Reconnect when an established connection is lost.")
    broker_connection_retry_on_startup: bool | None = option(default=None, doc="Keep trying when the very first connection fails; none follows `broker_connection_retry`.")
    broker_connection_timeout: float | None = option(default=4.0, min=0, unit="s", doc="Longest wait for one connection attempt.")
    broker_failover_strategy: object = option(default=None, doc="Order in which several broker URLs are tried: `round-robin`, `shuffle`, or a callable.")
    broker_heartbeat: float | None = option(default=10.0, min=0, unit="s", doc="AMQP heartbeat interval; 0 or none switches it off.")
    broker_heartbeat_checkrate: float = option(default=3.0, min=1, unit="checks", doc="How often per heartbeat interval the connection is checked.", inert="each heartbeat is looked after four times")
    broker_host: str | None = option(default=None, doc="Host name; a part of the broker URL from before URLs.")
    broker_login_method: str | None = option(default=None, doc="AMQP login mechanism: `PLAIN`, `AMQPLAIN` or `EXTERNAL`.")
    broker_native_delayed_delivery_queue_type: str = option(default="quorum", choices=("classic", "quorum"), doc="Kind of the RabbitMQ queues that hold delayed messages.")
    broker_native_delayed_delivery_after: float = option(default=600.0, min=0, unit="s", doc="On RabbitMQ, a delay longer than this waits in the broker instead of in a worker.")
    broker_password: Secret | None = option(default=None, secret=True, doc="Password; a part of the broker URL from before URLs.")
    broker_pool_acquire_timeout: float | None = option(default=None, min=0, unit="s", doc="Longest wait for a free pooled connection; none means for ever.", inert="a process publishes on one connection, and `publish_timeout` limits the wait for it")
    broker_pool_limit: int | None = option(default=10, min=0, unit="connections", doc="Connections kept open for publishing; none or 0 opens one per use.", inert="a process publishes on one connection")
    broker_port: int | None = option(default=None, min=1, max=65535, doc="Port; a part of the broker URL from before URLs.")
    broker_read_url: tuple[str, ...] | str | None = option(default=None, url=True, doc="Broker to consume from; none means `broker_url`.")
    broker_sqlite_poll_interval: float = option(default=0.25, min=0.001, max=60, unit="s", doc="How often the embedded broker looks for messages when nobody rang its doorbell.")
    broker_sqlite_synchronous: str = option(default="NORMAL", choices=("NORMAL", "FULL"), doc="Durability of the embedded broker: `NORMAL` survives a killed process, `FULL` also a power cut.")
    broker_transport: str | None = option(default=None, doc="Transport name; a part of the broker URL from before URLs.")
    broker_transport_options: dict[str, object] = option(default={}, doc="Options handed to the transport, such as `visibility_timeout` or `global_keyprefix`.")
    broker_url: tuple[str, ...] | str | None = option(default=None, url=True, doc="Broker URL, several joined by `;`, or a list; none means the embedded SQLite broker in `data_dir`.")
    broker_use_ssl: bool | dict[str, object] = option(default=False, doc="TLS to the broker: true, or a table of ssl options.")
    broker_user: str | None = option(default=None, doc="User name; a part of the broker URL from before URLs.")
    broker_vhost: str | None = option(default=None, doc="Virtual host; a part of the broker URL from before URLs.")
    broker_write_url: tuple[str, ...] | str | None = option(default=None, url=True, doc="Broker to publish to; none means `broker_url`.")
    lease_seconds: float = option(default=30.0, min=0.5, max=86400, unit="s", doc="How long a delivery belongs to a worker that stopped renewing it (Redis, SQLite).")
    publish_confirm: str = option(default="sync", choices=("sync", "async"), doc="On AMQP: `sync` waits until the broker has the message, `async` returns at once and confirms behind.")
    publish_buffer_size: int = option(default=10_000, min=1, max=10_000_000, unit="messages", doc="Most unconfirmed messages kept with `publish_confirm = async`; then publishing waits.")
    publish_timeout: float = option(default=30.0, min=0.01, unit="s", doc="Longest wait for a publisher confirm.")

    # ---- tasks and their messages
    task_acks_late: bool = option(default=True, celery=False, doc="Acknowledge after the run: at least once. Off acknowledges before it: at most once.")
    task_acks_on_failure: bool | None = option(default=None, doc="Whether a failed late-ack task is acknowledged; none follows `task_acks_on_failure_or_timeout`.")
    task_acks_on_failure_or_timeout: bool = option(default=True, doc="Whether a late-ack task that failed or timed out is acknowledged; the two finer settings win.")
    task_acks_on_timeout: bool | None = option(default=None, doc="Whether a late-ack task over its hard limit is acknowledged; none follows `task_acks_on_failure_or_timeout`.")
    task_allow_error_cb_on_chord_header: bool = option(default=False, doc="An error callback of a chord is attached to every header member too.")
    task_always_eager: bool = option(default=False, doc="`delay` and `apply_async` run the task right here; for tests.")
    task_annotations: object = option(default=None, doc="Task attributes to override, by task name or `*`; a table, an object with `annotate`, or a list of them.")
    task_compression: str | None = option(default=None, doc="Compression of task messages: `gzip`, `bzip2`, `lzma`, `brotli` or `zstd`.")
    task_create_missing_queue_exchange_type: str | None = option(default=None, doc="Exchange type of queues made up on the fly; none follows `task_default_exchange_type`.")
    task_create_missing_queue_type: str = option(default="classic", choices=("classic", "quorum"), doc="RabbitMQ kind of queues made up on the fly.")
    task_create_missing_queues: bool = option(default=True, doc="A queue named in a call or on the command line but not in `task_queues` is created.")
    task_default_delivery_mode: int = option(default=2, synonyms={"transient": 1, "persistent": 2}, min=1, max=2, doc="2 keeps messages on the broker's disk, 1 only in its memory.")
    task_default_exchange: str | None = option(default=None, doc="Exchange for messages without one; none means the name of the default queue.")
    task_default_exchange_type: str = option(default="direct", doc="Type of that exchange.")
    task_default_priority: int | None = option(default=None, min=0, max=255, doc="Priority of messages without one.")
    task_default_queue: str = option(default="celery", doc="Queue for tasks that no route names another for.")
    task_default_queue_type: str = option(default="classic", choices=("classic", "quorum"), doc="RabbitMQ kind of the default queue.")
    task_default_rate_limit: float | str | None = option(default=None, min=0, doc="Rate limit of tasks without one, such as `10/s`, `100/m`, or runs per second.")
    task_default_routing_key: str | None = option(default=None, doc="Routing key for messages without one; none means the name of the default queue.")
    task_eager_propagates: bool = option(default=False, doc="Eager runs raise the task's exception to the caller.")
    task_ignore_result: bool = option(default=False, doc="Results are not stored unless a task says otherwise.")
    task_inherit_parent_priority: bool = option(default=False, doc="Calls made inside a task take the priority of the running message.")
    task_payload: str = option(default="full", choices=("full", "repr", "none"), doc="What events carry of the arguments: redacted JSON, a short text, or nothing.")
    task_version: str | None = option(default=None, doc="Label of the code that runs tasks, such as a commit; events carry it, so that releases can be compared.")
    task_payload_max_bytes: int = option(default=16 * 1024, min=0, max=_MIB, unit="bytes", doc="Largest JSON arguments an event carries; longer ones are marked incomplete.")
    task_payload_redact: tuple[str, ...] = option(default=("password", "passwd", "secret", "token", "api_key", "authorization"), doc="Argument names whose values events never carry; matched inside the name, any case.")
    task_protocol: int = option(default=2, min=1, max=2, doc="Message protocol used to publish; both are read.")
    task_publish_retry: bool = option(default=True, doc="Publishing is tried again when the connection fails.")
    task_publish_retry_policy: dict[str, object] = option(default={"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2}, doc="How publishing is retried; intervals in seconds.")
    task_queue_max_priority: int | None = option(default=None, min=1, max=255, doc="Priority levels declared on queues (`x-max-priority`).")
    task_queues: object = option(default=None, doc="Queues a worker consumes by default: names, a table of name to options, or kombu `Queue` objects.")
    task_reject_on_worker_lost: bool | None = option(default=True, celery=None, doc="A late-ack task whose process died goes back to the queue instead of failing.")
    task_remote_tracebacks: bool = option(default=False, doc="Results carry tracebacks that can be raised again elsewhere; needs tblib.", inert="results carry tracebacks as text")
    task_repr_maxlevels: int = option(default=3, min=0, max=50, unit="levels", doc="Nesting shown in the short text of arguments.")
    task_retry_on_worker_lost: bool = option(default=False, doc="A task whose process died is retried, and the retry is counted.")
    task_routes: object = option(default=None, doc="Which queue a task goes to: table of name or pattern to options, functions, or a list of these.")
    task_send_sent_event: bool = option(default=True, celery=False, doc="Publishers announce each call (`task-sent`), so that waiting time is known from the start.")
    task_serializer: str = option(default="json", doc="Serializer of task messages and remote control.")
    task_soft_time_limit: float | None = option(default=None, min=0, unit="s", doc="After this long the task gets `SoftTimeLimitExceeded` and may clean up; none or 0 is no limit.")
    task_store_eager_result: bool = option(default=False, doc="Eager runs store their results too.")
    task_store_errors_even_if_ignored: bool = option(default=False, doc="Failures are stored even for tasks that ignore results.")
    task_time_limit: float | None = option(default=None, min=0, unit="s", doc="After this long the process running the task is killed; none or 0 is no limit.")
    task_track_started: bool = option(default=False, doc="The state STARTED is stored when a run begins.")
    quarantine_after_deaths: int = option(default=3, min=0, max=1000, unit="deaths", doc="A message whose process died this often is set aside with its evidence; 0 never does.")
    quarantine_max_messages: int = option(default=10_000, min=0, max=10_000_000, unit="messages", doc="Most messages kept in quarantine; one more is rejected, which is logged with all that is known of it and counted; 0 is no limit.")
    quarantine_queue: str = option(default="opsq.quarantine", doc="Queue that holds messages set aside.")

    # ---- results
    result_accept_content: tuple[str, ...] | None = option(default=None, doc="Content types read from the result store; none means `accept_content`.")
    result_backend: str | None = option(default=None, url=True, doc="Result store URL, or `disabled`; none keeps results in `data_dir` when the broker is embedded too, else disables them.")
    result_backend_always_retry: bool = option(default=False, doc="Operations that failed for a passing reason are tried again.")
    result_backend_base_sleep_between_retries_ms: float = option(default=10.0, min=0, unit="ms", doc="First wait between such tries; it doubles.")
    result_backend_max_retries: float = option(default=float("inf"), min=0, unit="attempts", doc="Most such tries.")
    result_backend_max_sleep_between_retries_ms: float = option(default=10_000.0, min=0, unit="ms", doc="Longest wait between such tries.")
    result_backend_thread_safe: bool = option(default=True, celery=None, doc="One store object serves every thread.", inert="opsq's stores always can")
    result_backend_transport_options: dict[str, object] = option(default={}, doc="Options of the result store, such as `global_keyprefix` or `master_name`.")
    result_cache_max: int | None = option(default=-1, min=-1, unit="results", doc="Results remembered by the client; -1 none, 0 or none all.", inert="each handle remembers its own result, and no other")
    result_chord_expires: float | None = option(default=None, min=0, unit="s", doc="How long the bookkeeping of a chord is kept; none follows `result_expires`.")
    result_chord_join_timeout: float = option(default=3.0, min=0, unit="s", doc="Longest wait for one header result when a chord's body is built.")
    result_chord_retry_interval: float = option(default=1.0, min=0.001, unit="s", doc="How often a chord is looked at on stores that cannot count.")
    result_compression: str | None = option(default=None, doc="Compression of stored results.")
    result_exchange: str = option(default="celeryresults", doc="Exchange of the AMQP result backend that Celery removed.", inert="that backend no longer exists")
    result_exchange_type: str = option(default="direct", doc="Type of that exchange.", inert="that backend no longer exists")
    result_expires: float | None = option(default=86400.0, min=0, unit="s", doc="How long a result is kept; a timedelta is fine; none or 0 keeps it for ever.")
    result_extended: bool = option(default=False, doc="Results also hold name, arguments, worker, retries and queue.")
    result_failure_expires: float | None = option(default=None, min=0, unit="s", doc="How long a failure is kept; none follows `result_expires`.")
    result_persistent: bool | None = option(default=None, doc="Result messages of the `rpc` backend survive a broker restart.")
    result_serializer: str = option(default="json", doc="Serializer of results.")
    redis_backend_credential_provider: object = option(default=None, secret=True, doc="Credential provider of redis-py: an object or its path.")
    redis_backend_health_check_interval: float | None = option(default=None, min=0, unit="s", doc="An idle pooled connection older than this is pinged before use.")
    redis_backend_use_ssl: bool | dict[str, object] | None = option(default=None, doc="TLS to the result Redis: a table of ssl options.")
    redis_client_name: str | None = option(default=None, doc="Name the connections show in `CLIENT LIST`.")
    redis_db: int | str | None = option(default=None, doc="Database number; a part of the result URL from before URLs.")
    redis_host: str | None = option(default=None, doc="Host; a part of the result URL from before URLs.")
    redis_max_connections: int | None = option(default=None, min=1, unit="connections", doc="Most connections of the result store.")
    redis_password: Secret | None = option(default=None, secret=True, doc="Password; a part of the result URL from before URLs.")
    redis_port: int | None = option(default=None, min=1, max=65535, doc="Port; a part of the result URL from before URLs.")
    redis_retry_on_timeout: bool = option(default=False, doc="A read that timed out is tried once more.")
    redis_socket_connect_timeout: float | None = option(default=None, min=0, unit="s", doc="Longest wait to connect.")
    redis_socket_keepalive: bool = option(default=False, doc="TCP keep-alive on the connections.")
    redis_socket_timeout: float | None = option(default=15.0, celery=120.0, min=0, unit="s", doc="Longest wait for a reply of the result store; a slot waits that long for a store that has gone silent.")
    redis_username: str | None = option(default=None, doc="ACL user; a part of the result URL from before URLs.")
    database_create_tables_at_setup: bool = option(default=True, doc="Tables are made when a worker starts rather than at the first result.", inert="missing tables are made at the first use")
    database_engine_callback: object = option(default=None, doc="Function, or its path, that adjusts the SQL engine after it is made.")
    database_engine_options: dict[str, object] = option(default={"pool_pre_ping": True, "pool_recycle": 3600}, doc="Options for making the SQL engine.")
    database_short_lived_sessions: bool = option(default=False, doc="Each operation opens a session of its own.", inert="each operation has a transaction of its own, and no session")
    database_table_names: dict[str, object] | None = option(default=None, doc="Table names, by `task` and `group`.")
    database_table_schemas: dict[str, object] | None = option(default=None, doc="Schemas, by `task` and `group`.")
    database_url: str | None = option(default=None, url=True, doc="SQL result store; from before `result_backend` took URLs.")

    # ---- result stores of others
    arangodb_backend_settings: dict[str, object] | None = option(default=None, secret=True, doc="Connection options.", inert=_OTHER_STORE)
    azureblockblob_base_path: str = option(default="", doc="Folder in the container.", inert=_OTHER_STORE)
    azureblockblob_connection_timeout: float = option(default=20.0, min=0, unit="s", doc="Longest wait to connect.", inert=_OTHER_STORE)
    azureblockblob_container_name: str = option(default="celery", doc="Container name.", inert=_OTHER_STORE)
    azureblockblob_read_timeout: float = option(default=120.0, min=0, unit="s", doc="Longest wait for a reply.", inert=_OTHER_STORE)
    azureblockblob_retry_increment_base: float = option(default=2.0, min=0, doc="Factor by which the wait grows.", inert=_OTHER_STORE)
    azureblockblob_retry_initial_backoff_sec: float = option(default=2.0, min=0, unit="s", doc="First wait.", inert=_OTHER_STORE)
    azureblockblob_retry_max_attempts: int = option(default=3, min=0, unit="attempts", doc="Most attempts.", inert=_OTHER_STORE)
    cache_backend: str | None = option(default=None, url=True, doc="Memcached URL when `result_backend` is `cache`.")
    cache_backend_options: dict[str, object] = option(default={}, doc="Options of the memcached client.")
    cassandra_auth_kwargs: dict[str, object] | None = option(default=None, secret=True, doc="Login arguments.")
    cassandra_auth_provider: str | None = option(default=None, doc="Login class.")
    cassandra_bundle_path: str | None = option(default=None, doc="Other name of `cassandra_secure_bundle_path`.")
    cassandra_entry_ttl: float | None = option(default=None, min=0, unit="s", doc="Lifetime of rows.")
    cassandra_keyspace: str | None = option(default=None, doc="Keyspace.")
    cassandra_options: dict[str, object] = option(default={}, doc="More cluster options.")
    cassandra_port: int | None = option(default=None, min=1, max=65535, doc="Port.")
    cassandra_read_consistency: str | None = option(default=None, doc="Consistency of reads.")
    cassandra_secure_bundle_path: str | None = option(default=None, doc="Connect bundle of a hosted cluster.")
    cassandra_servers: tuple[str, ...] | None = option(default=None, doc="Hosts to start from.")
    cassandra_table: str | None = option(default=None, doc="Table.")
    cassandra_write_consistency: str | None = option(default=None, doc="Consistency of writes.")
    cosmosdbsql_collection_name: str = option(default="celerycol", doc="Collection.", inert=_OTHER_STORE)
    cosmosdbsql_consistency_level: str = option(default="Session", doc="Consistency.", inert=_OTHER_STORE)
    cosmosdbsql_database_name: str = option(default="celerydb", doc="Database.", inert=_OTHER_STORE)
    cosmosdbsql_max_retry_attempts: int = option(default=9, min=0, unit="attempts", doc="Most attempts.", inert=_OTHER_STORE)
    cosmosdbsql_max_retry_wait_time: float = option(default=30.0, min=0, unit="s", doc="Longest wait in total.", inert=_OTHER_STORE)
    couchbase_backend_settings: dict[str, object] | None = option(default=None, secret=True, doc="Connection options.", inert=_OTHER_STORE)
    elasticsearch_max_retries: int | None = option(default=None, min=0, unit="attempts", doc="Most attempts.", inert=_OTHER_STORE)
    elasticsearch_retry_on_timeout: bool | None = option(default=None, doc="A time-out is tried again.", inert=_OTHER_STORE)
    elasticsearch_save_meta_as_text: bool = option(default=True, doc="Results are stored as text, not as a document.", inert=_OTHER_STORE)
    elasticsearch_timeout: float | None = option(default=None, min=0, unit="s", doc="Longest wait for a reply.", inert=_OTHER_STORE)
    gcs_base_path: str = option(default="", doc="Folder in the bucket.", inert=_OTHER_STORE)
    gcs_bucket: str | None = option(default=None, doc="Bucket.", inert=_OTHER_STORE)
    gcs_project: str | None = option(default=None, doc="Project.", inert=_OTHER_STORE)
    gcs_ttl: float = option(default=0.0, min=0, unit="s", doc="Lifetime of objects; 0 leaves it to the bucket.", inert=_OTHER_STORE)
    mongodb_backend_settings: dict[str, object] | None = option(default=None, secret=True, doc="Database, collections and client options.")
    s3_access_key_id: Secret | None = option(default=None, secret=True, doc="Access key.")
    s3_base_path: str | None = option(default=None, doc="Folder in the bucket.")
    s3_bucket: str | None = option(default=None, doc="Bucket.")
    s3_endpoint_url: str | None = option(default=None, url=True, doc="Address of a compatible service.")
    s3_region: str | None = option(default=None, doc="Region.")
    s3_secret_access_key: Secret | None = option(default=None, secret=True, doc="Secret of the access key.")

    # ---- worker
    worker_agent: object = option(default=None, doc="Extra component class of old Celery.", inert=_FIXED_PART)
    worker_allow_root_with_pickle: bool = option(default=False, doc="Let a worker that accepts pickle run as root; anyone who can publish then owns the machine.")
    worker_autoreload: bool = option(default=False, doc="Run new tasks on new code when imported source files change; for development.")
    worker_autoreload_paths: tuple[str, ...] = option(default=(), doc="Files and folders that `worker_autoreload` watches besides the app's modules.")
    worker_autoscaler: object = option(default="opsq.autoscale", celery="celery.worker.autoscale:Autoscaler", doc="Autoscaler class of Celery.", inert="opsq's autoscaler is tuned through `autoscale_*`")
    worker_cancel_long_running_tasks_on_connection_loss: bool = option(default=False, doc="Running late-ack tasks are stopped when the broker connection is lost.", inert="a running task gets its delivery back after the reconnect, so it does not run twice")
    worker_concurrency: int = option(default=0, celery=None, min=0, max=100_000, unit="slots", synonyms={"auto": 0, None: 0}, doc="Tasks run at the same time; 0 means one per CPU this process may use.")
    worker_consumer: object = option(default=None, celery="celery.worker.consumer:Consumer", doc="Consumer class of Celery.", inert=_FIXED_PART)
    worker_deduplicate_successful_tasks: bool = option(default=False, doc="A redelivered late-ack task whose stored result is SUCCESS is not run again.")
    worker_detect_quorum_queues: bool = option(default=True, doc="Quorum queues are recognised and prefetch is set per consumer.", inert="opsq always does")
    worker_direct: bool = option(default=False, doc="Each worker also consumes a queue of its own name.")
    worker_disable_prefetch: bool = option(default=False, doc="A message is taken only when a slot is free.")
    worker_disable_rate_limits: bool = option(default=False, doc="Rate limits are ignored.")
    worker_enable_prefetch_count_reduction: bool = option(default=True, doc="After a reconnect, prefetch grows back as running tasks finish.", inert="what runs keeps its place through a reconnect")
    worker_enable_remote_control: bool = option(default=True, doc="The worker answers remote commands.")
    worker_enable_soft_shutdown_on_idle: bool = option(default=False, doc="The soft shutdown also waits when only tasks with an ETA are held.")
    worker_eta_task_limit: int | None = option(default=None, min=1, unit="messages", doc="Most messages fetched while tasks with an ETA are held.")
    worker_exclude_queues: tuple[str, ...] = option(default=(), doc="Queues not consumed; `-X` on the command line.")
    worker_executable: str | None = option(default=None, doc="Python of the detached process; none means the present one.")
    worker_gid: int | str | None = option(default=None, doc="Group to become, by name or number, before the app is loaded.")
    worker_gossip: bool = option(default=True, doc="Election requests of other workers are answered; opsq itself never starts one.")
    worker_health_host: str = option(default="127.0.0.1", doc="Address of the health port; a container that is probed from outside needs `0.0.0.0`.")
    worker_health_port: int | None = option(default=None, min=0, max=65535, doc="Port that answers `/live` and `/ready`; none opens no port, 0 any free one.")
    worker_heartbeat_interval: float = option(default=2.0, min=0, unit="s", doc="How often a worker announces that it lives; 0 never does.")
    worker_hijack_root_logger: bool = option(default=True, doc="The worker configures the root logger; off leaves logging to the application.")
    worker_hostname: str = option(default="opsq@%h", celery="celery@%h", doc="Node name; `%h` host, `%n` name, `%d` domain.")
    worker_log_color: bool | None = option(default=None, doc="Colours in console logs; none means when it is a terminal.")
    worker_log_datefmt: str | None = option(default=None, doc="Date format of console logs, as in `strftime`.")
    worker_log_format: str | None = option(default=None, celery="[%(asctime)s: %(levelname)s/%(processName)s] %(message)s", doc="Format of console logs, as in `logging`; none means opsq's own.")
    worker_logfile: str | None = option(default=None, doc="Log file, made readable by its owner only; `%n` name and `%h` all of the node; none means standard error.")
    worker_lost_wait: float = option(default=10.0, min=0, unit="s", doc="How long after a child's death its last messages are waited for.", inert="all that a child has sent is read before its death is judged")
    worker_max_memory_per_child: int | None = option(default=None, min=1, unit="KiB", doc="A child that grew beyond this is replaced after its task.")
    worker_max_tasks_per_child: int | None = option(default=None, min=1, unit="tasks", doc="A child is replaced after this many tasks.")
    worker_mingle: bool = option(default=True, doc="Revoked ids are exchanged with other workers at start, in the background.")
    worker_pidfile: str | None = option(default=None, doc="File that holds the process id while the worker runs; marks as in `worker_logfile`.")
    worker_pool: object = option(default="prefork", doc="How tasks run: `prefork`, `threads`, `solo`, `asyncio`, `gevent`, `eventlet`, or `module:Class`.")
    worker_pool_putlocks: bool = option(default=True, doc="Backpressure switch of Celery's pool.", inert="opsq's pools never block on submit")
    worker_pool_restarts: bool = option(default=False, doc="The remote command `pool_restart` is allowed.")
    worker_pool_start_method: str = option(default="fork", choices=("fork", "spawn"), doc="How prefork children are made: `fork` shares the loaded application, `spawn` loads it again.")
    worker_prefetch_multiplier: int | None = option(default=None, celery=4, min=0, max=100_000, unit="messages per slot", doc="Messages held per slot; 0 is no limit; none adapts to about `worker_prefetch_target` of work.")
    worker_prefetch_target: float = option(default=0.1, min=0.001, max=60, unit="s", doc="Work to hold in advance when prefetch adapts.")
    worker_proc_alive_timeout: float = option(default=4.0, min=0.1, unit="s", celery=4.0, doc="Longest wait for a new child to report.", inert="a child may take as long to load the app as a worker may to start")
    worker_queues: tuple[str, ...] = option(default=(), doc="Queues to consume; none named means all of `task_queues`; `-Q` on the command line.")
    worker_redirect_stdouts: bool = option(default=True, doc="What a worker, its tasks or beat print goes to the log, and what a task prints into its own.")
    worker_redirect_stdouts_level: str = option(default="WARNING", choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), doc="Level of such lines.")
    worker_remap_sigterm: str | None = option(default=None, choices=("SIGQUIT",), doc="Treat SIGTERM as this signal; `SIGQUIT` makes it a cold shutdown.")
    worker_revokes_max: int = option(default=50_000, min=1, unit="ids", doc="Revoked task ids remembered.")
    worker_revoke_expires: float = option(default=10_800.0, min=1, unit="s", doc="How long a revoked id is remembered.")
    worker_send_task_events: bool = option(default=True, celery=False, doc="Workers announce what happens to each task; without it the monitor sees nothing.")
    worker_shutdown_timeout: float | None = option(default=None, min=0, unit="s", doc="A warm shutdown still running after this long becomes a cold one; none waits for the tasks.")
    worker_soft_shutdown_timeout: float = option(default=0.0, min=0, unit="s", doc="A cold shutdown waits this long for running tasks before it stops them.")
    worker_state_db: str | None = option(default=None, doc="File that keeps revoked ids across restarts.")
    worker_successful_max: int = option(default=1_000, min=1, unit="ids", doc="Finished task ids remembered for deduplication.", inert="deduplication asks the result store")
    worker_successful_expires: float = option(default=10_800.0, min=1, unit="s", doc="How long a finished id is remembered.", inert="deduplication asks the result store")
    worker_task_log_datefmt: str | None = option(default=None, doc="Date format of log lines inside tasks.")
    worker_task_log_format: str | None = option(default=None, celery="[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s", doc="Format of log lines inside tasks; none means opsq's own.")
    worker_timer: object = option(default=None, doc="Timer class of Celery.", inert=_FIXED_PART)
    worker_timer_precision: float = option(default=1.0, min=0.001, unit="s", doc="Timer resolution of Celery.", inert="opsq's timers are exact")
    worker_uid: int | str | None = option(default=None, doc="User to become, by name or number, before the app is loaded.")
    worker_umask: str | None = option(default=None, doc="File mask of the worker, in octal, such as `027`.")

    # ---- events
    event_batch_size: int = option(default=500, min=1, max=10_000, unit="events", doc="Most events in one message.")
    event_buffer_size: int = option(default=10_000, min=100, max=10_000_000, unit="events", doc="Events waiting to be sent; when full the oldest are dropped and counted.")
    event_exchange: str = option(default="celeryev", doc="Exchange events are published to.")
    event_flush_interval: float = option(default=0.05, min=0.001, max=60, unit="s", doc="Longest time an event waits for company.")
    event_log_lines_max: int = option(default=200, min=0, max=10_000, unit="lines", doc="Log lines of one run that events carry; 0 carries none.")
    event_queue_durable: bool = option(default=False, doc="Monitor queues survive a broker restart.", inert="a monitor's queue goes with its connection")
    event_queue_exclusive: bool = option(default=True, doc="A monitor queue belongs to one connection.", inert="a monitor's queue is its own")
    event_queue_expires: float | None = option(default=60.0, min=0, unit="s", doc="An unused monitor queue is removed after this long.")
    event_queue_prefix: str = option(default="celeryev", doc="Start of the names of monitor queues.")
    event_queue_ttl: float | None = option(default=5.0, min=0, unit="s", doc="Events that nobody fetched are dropped after this long.")
    event_replay_size: int = option(default=20_000, min=0, max=10_000_000, unit="events", doc="Sent events an emitter keeps so that a monitor can ask again for what it missed.")
    event_serializer: str = option(default="json", doc="Serializer of events.", inert="events are JSON, which every monitor reads")
    events_executable: str | None = option(default=None, doc="Python of a detached event snapshot process.", inert=_DAEMON)
    events_gid: int | str | None = option(default=None, doc="Group of that process.", inert=_DAEMON)
    events_logfile: str | None = option(default=None, doc="Log file of that process.", inert=_DAEMON)
    events_pidfile: str | None = option(default=None, doc="Process id file of that process.", inert=_DAEMON)
    events_uid: int | str | None = option(default=None, doc="User of that process.", inert=_DAEMON)
    events_umask: int | str | None = option(default=None, doc="File mask of that process.", inert=_DAEMON)

    # ---- remote control
    control_exchange: str = option(default="celery", doc="Start of the names of the exchanges for remote control.")
    control_queue_durable: bool = option(default=False, doc="Control queues survive a broker restart; not together with exclusive.")
    control_queue_exclusive: bool = option(default=True, doc="A control queue belongs to one connection.")
    control_queue_expires: float | None = option(default=10.0, min=0, unit="s", doc="An unused control queue is removed after this long.")
    control_queue_ttl: float | None = option(default=300.0, min=0, unit="s", doc="A command that was not fetched is dropped after this long.")

    # ---- beat
    beat_cron_starting_deadline: float | None = option(default=None, min=0, unit="s", doc="A crontab tick later than this is not sent; none catches up once, however late.")
    beat_enable_remote_control: bool = option(default=False, doc="Beat answers a remote ping.")
    beat_executable: str | None = option(default=None, doc="Python of the detached process; none means the present one.")
    beat_gid: int | str | None = option(default=None, doc="Group to become, by name or number, before the app is loaded.")
    beat_logfile: str | None = option(default=None, doc="Log file; none means standard error. Marks as in `worker_logfile`.")
    beat_lease_seconds: float = option(default=15.0, min=0.5, max=3600, unit="s", doc="Of several beats one leads; when it is gone, another takes over after this long.")
    beat_max_loop_interval: float = option(default=0.0, min=0, unit="s", doc="Longest sleep between two looks at the schedule; 0 leaves it to the scheduler.")
    beat_pidfile: str | None = option(default=None, doc="File that holds the process id while beat runs.")
    beat_remote_control_max_tick_age: float | None = option(default=None, min=0, unit="s", doc="Beat stops answering pings when its last look is older than this.")
    beat_schedule: dict[str, object] = option(default={}, doc="What to call and when: name to a table with `task`, `schedule`, `args`, `kwargs`, `options`, `relative`.")
    beat_schedule_filename: str = option(default="celerybeat-schedule", doc="A SQLite file to keep the schedule in; Celery's default name means none.")
    beat_scheduler: object = option(default="opsq.core.beat.scheduler:Scheduler", celery="celery.beat:PersistentScheduler", doc="Scheduler class, or its path.")
    beat_store_url: str | None = option(default=None, url=True, doc="Where the schedule is kept, `sqlite:`, `redis:` or `postgresql:`; none means the broker's Redis, else `beat_schedule_filename`, else `beat.db` in `data_dir`.")
    beat_sync_every: int = option(default=0, min=0, unit="calls", doc="Ticks between two saves of the schedule.", inert="every tick is saved at once")
    beat_uid: int | str | None = option(default=None, doc="User to become, by name or number, before the app is loaded.")
    beat_umask: str | None = option(default=None, doc="File mask of the beat, in octal, such as `027`.")

    # ---- signed messages
    security_cert_store: str | None = option(default=None, doc="Glob of certificates that are trusted.")
    security_certificate: str | None = option(default=None, doc="File of our own X.509 certificate.")
    security_digest: str = option(default="sha256", doc="Digest of signatures.")
    security_key: str | None = option(default=None, doc="File of our own private key.")
    security_key_password: Secret | None = option(default=None, secret=True, doc="Password of that key.")

    # ---- monitor
    monitor_cluster: str | None = option(default=None, doc="Name of the watched cluster, as pages show it; the broker's host by default.")
    monitor_enable_events: bool = option(default=True, doc="The monitor tells workers that announce no tasks to do so.")
    monitor_live_tasks_bytes: int = option(default=256 * _MIB, min=_MIB, unit="bytes", doc="Memory for tasks that are still moving; beyond it the oldest live only in the store.")
    monitor_queue_size: int = option(default=500_000, min=1000, max=50_000_000, unit="events", doc="Received events waiting to be folded; when full the oldest are dropped and counted.")
    monitor_retention_bytes: int = option(default=10 * 1024 * _MIB, min=0, unit="bytes", doc="Largest history; the oldest goes first; 0 is no limit.")
    monitor_retention_days: float = option(default=14.0, min=0, unit="days", doc="Age at which history is removed; 0 keeps it for ever.")
    monitor_retention_decision_days: float = option(default=90.0, min=0, unit="days", doc="Age at which decisions about slots are removed; 0 keeps them for ever.")
    monitor_retention_log_bytes: int = option(default=1024 * _MIB, min=0, unit="bytes", doc="Room for the lines that tasks logged; the oldest go first; 0 is no limit beside that of history.")
    monitor_retention_log_days: float = option(default=7.0, min=0, unit="days", doc="Age at which lines that tasks logged are removed, at the latest with history; 0 keeps them as long.")
    monitor_store_url: str | None = option(default=None, url=True, doc="Where history is kept: `sqlite:///file`, `postgresql://…` or `memory://`; none means `history.db` in `data_dir`.")
    monitor_worker_offline_after: float = option(default=60.0, min=1, unit="s", doc="A worker silent for this long counts as gone.")

    # ---- web
    web_admin_password: str | None = option(default=None, secret=True, doc="Password of the user `admin`, for containers that mount no accounts file.")
    web_allowed_hosts: tuple[str, ...] = option(default=(), doc="Names that a request's Host header may carry besides loopback and `web_host`; needed behind a proxy that passes its own name on.")
    web_enabled: bool = option(default=True, doc="The monitor serves its pages; `--no-web` on the command line.")
    web_host: str = option(default="127.0.0.1", doc="Address to listen on; anything but loopback needs a login.")
    web_metrics_names: tuple[str, ...] = option(default=("flower", "celery"), doc="Whose metric names `/metrics` tells beside opsq's own, so that their dashboards and alerts work: `flower`, `celery` (celery-exporter); empty for none.")
    web_secret_key: str | None = option(default=None, secret=True, doc="Signs the cookies of those who signed in; the same on every monitor behind one name; none keeps one in `data_dir`.")
    web_session_hours: float = option(default=12.0, min=0.1, max=24 * 30, unit="h", doc="How long somebody stays signed in.")
    web_trusted_proxies: tuple[str, ...] = option(default=(), doc="Addresses or networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.")
    web_users_file: str | None = option(default=None, doc="Accounts of the pages, written by `opsq users`; none means `users.json` in `data_dir`, if it is there.")
    web_port: int = option(default=5555, min=0, max=65535, doc="Port to listen on; 0 takes any free one.")
    web_url_prefix: str = option(default="", doc="Path under which a reverse proxy serves the pages, such as `/opsq`.")

    # ---- autoscaling
    autoscale_connections: dict[str, object] = option(default={}, doc="A server that all slots connect to: `limit` connections, `reserve` left alone, `per_slot` each; caps the slots.")
    autoscale_groups: dict[str, object] = option(default={}, doc="What the monitor scales: name of a group to `queues`, `min`, `max`, `target` (`fleet`, `kubernetes`, `none`), `scales`, `slots_per_replica`, `startup`.")
    autoscale_interval: float = option(default=1.0, min=0.1, max=60, unit="s", doc="Between two decisions of a worker; a burst is answered at once.")
    autoscale_kubernetes_token: str | None = option(default=None, doc="File that holds the token for `autoscale_kubernetes_url`; read anew each time.")
    autoscale_kubernetes_url: str | None = option(default=None, url=True, doc="Kubernetes API to scale through; none is that of the cluster the monitor runs in, with its service account.")
    autoscale_keepalive: float | None = option(default=None, celery=30.0, min=0, unit="s", doc="How long a slot must be unneeded before it goes; none is the preset's own hold.")
    autoscale_max_slots: int | None = option(default=None, min=1, max=100_000, unit="slots", doc="Most slots of an autoscaled worker; none does not autoscale. `--autoscale=MAX,MIN` sets both.")
    autoscale_memory_limit: int | None = option(default=None, min=1, unit="bytes", doc="Memory a worker with its children may use; none is the control group's limit, if there is one.")
    autoscale_min_slots: int = option(default=0, min=0, max=100_000, unit="slots", doc="Fewest slots of an autoscaled worker; one always stays.")
    autoscale_mode: str = option(default="live", choices=("live", "dry"), doc="`dry` decides and records, and changes nothing: to run beside another autoscaler.")
    autoscale_policy: str = option(default="opsq", doc="What decides: `opsq`, `celery`, `keda`, `keda_tuned`, or a function of yours as `module:name`.")
    autoscale_preset: str = option(default="balanced", choices=("lean", "balanced", "snappy"), doc="How eager it is: `lean` waits until load has come, `snappy` keeps room for it.")
    autoscale_schedule: dict[str, object] = option(default={}, doc="Fewest slots at certain minutes: a crontab such as `* 8-17 * * mon-fri` to slots.")
    autoscale_signal: str | None = option(default=None, url=True, doc="A measure of your own: `module:function` that returns a number, or the URL of a Prometheus query.")
    autoscale_signal_per_slot: float = option(default=1.0, min=1e-9, doc="How much of that measure one slot is good for.")
    autoscale_slot_hours: float | None = option(default=None, min=0, unit="slot-hours a day", doc="Cost cap: what may be used in a day; none is no cap.")
    autoscale_wait: float = option(default=5.0, min=0.01, max=86_400, unit="s", doc="Work is to start within this time; `--autoscale-wait` on the command line.")
    autoscale_waits: dict[str, object] = option(default={}, doc="Queues with another wait target: name to seconds.")

    # fmt: on

    def __repr__(self) -> str:
        changed = (f"{name}={value!r}" for name, value in self.masked().items() if value != OPTIONS[name].default)
        return f"Settings({', '.join(changed)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and all(getattr(self, name) == getattr(other, name) for name in OPTIONS)

    __hash__ = None  # type: ignore[assignment]  # tables inside are not hashable

    def __iter__(self) -> Iterator[tuple[str, object]]:
        """Every name with its value, unmasked, in the order of the table."""
        return ((name, getattr(self, name)) for name in OPTIONS)

    def masked(self) -> dict[str, object]:
        """Return every value as it may be printed: secrets and passwords in URLs starred."""
        return {name: shown(info, getattr(self, name)) for name, info in OPTIONS.items()}

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with ``changes``; they are not checked, so pass values of the right type."""
        return dataclasses.replace(self, **changes)

    def data_path(self, name: str = "") -> str:
        """Absolute path of ``name`` inside ``data_dir``; nothing is created."""
        folder = os.path.abspath(os.path.expanduser(self.data_dir))
        return os.path.join(folder, name) if name else folder

    def embedded(self) -> bool:
        """Whether the broker is the SQLite file in ``data_dir`` because nobody named another."""
        return self.broker_url in (None, "", (), "sqlite://") and self.broker_host is None

    def resolved_broker_url(self, purpose: Literal["read", "write"] | None = None) -> str | tuple[str, ...]:
        """The broker to use, the embedded one spelled out as ``sqlite:///`` and its absolute path.

        purpose: "read" and "write" honour ``broker_read_url`` and ``broker_write_url``.
        """
        chosen = {"read": self.broker_read_url, "write": self.broker_write_url}.get(purpose or "") or self.broker_url
        if chosen and chosen != "sqlite://":
            return chosen
        if self.broker_host is not None:
            return self._broker_url_from_parts()
        return "sqlite:///" + self.data_path("broker.db")

    def resolved_result_backend(self) -> str | None:
        """The result store to use, None when results are disabled."""
        chosen = self.result_backend
        if chosen in ("disabled", "disabled://"):
            return None
        if chosen in ("database", "db") and self.database_url:
            return f"db+{self.database_url.removeprefix('db+')}"
        if chosen == "cache" and self.cache_backend:
            return f"cache+{self.cache_backend}"
        if chosen in ("sqlite", "sqlite://") or (not chosen and self.embedded()):
            return "sqlite:///" + self.data_path("results.db")
        return chosen or None

    def resolved_store_url(self) -> str:
        """Where the monitor keeps history."""
        return self.monitor_store_url or "sqlite:///" + self.data_path("history.db")

    def _broker_url_from_parts(self) -> str:
        login = quote(self.broker_user or "", safe="")
        if self.broker_password is not None:
            login += ":" + quote(self.broker_password.reveal(), safe="")
        port = f":{self.broker_port}" if self.broker_port is not None else ""
        place = f"{login}@" if login else ""
        vhost = f"/{self.broker_vhost}" if self.broker_vhost else ""
        return f"{self.broker_transport or 'amqp'}://{place}{self.broker_host}{port}{vhost}"


OPTIONS: Final[Mapping[str, OptionInfo]] = MappingProxyType(
    {field.name: option_info(field) for field in dataclasses.fields(Settings)}
)
