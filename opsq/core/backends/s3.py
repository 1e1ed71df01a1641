"""Results as objects of a bucket: ``s3://``, with the settings ``s3_*``. For S3 and services like it.

A write says what it replaces (``If-Match``, ``If-None-Match``), so a SUCCESS is never replaced; a service
that cannot do that is written to after reading, as Celery does.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from boto3 import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from opsq.core.backends.base import Capabilities, Kind
from opsq.core.backends.document import is_success
from opsq.core.backends.keys import PREFIXES, key_of, key_prefix
from opsq.core.backends.lifetimes import Lifetimes
from opsq.core.backends.per_process import PerProcess
from opsq.core.backends.polled import PolledBackend
from opsq.core.backends.polling import Pace
from opsq.errors import BackendUnavailable, ConfigError
from opsq.settings import Settings

_ABSENT: Final = ("NoSuchKey", "404")
_CHANGED: Final = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_CANNOT: Final = ("NotImplemented", "501")
_TRIES: Final = 10
_AT_ONCE: Final = 8
_PER_DELETE: Final = 1000
# Every look is a request that is paid for.
_PACE: Final = Pace(first_s=0.05, longest_s=2.0)


class S3Backend(PolledBackend):
    """Objects of one bucket below ``prefix``. connect: makes a client of boto3."""

    def __init__(self, bucket: str, prefix: str, connect: Any, lifetimes: Lifetimes) -> None:
        can = Capabilities(counts=False, expires=False, notifies=False, cross_process=True, lifetimes="store")
        super().__init__(f"s3 bucket {bucket}", can, (ClientError, BotoCoreError, OSError), _PACE)
        self._bucket = bucket
        self._prefix = prefix
        self._lifetimes = lifetimes
        self._conditions = True
        self._client: PerProcess[Any] = PerProcess(connect, lambda client: client.close())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _write(self, kind: Kind, id: str, payload: bytes, state: str, ttl_s: float | None) -> bool:
        key = key_of(kind, id, self._prefix)
        for _ in range(_TRIES):
            found = self._fetch(key)
            if found is not None and is_success(found[0]) and not found[2]:
                return False
            only_if = {"IfNoneMatch": "*"} if found is None else {"IfMatch": found[1]}
            try:
                self._client.get().put_object(
                    Bucket=self._bucket, Key=key, Body=payload, **(only_if if self._conditions else {})
                )
            except ClientError as error:
                if _code(error) in _CANNOT:
                    self._conditions = False
                elif _code(error) not in (*_CHANGED, *_ABSENT):
                    raise
                continue
            return True
        raise BackendUnavailable(f"result store {self._name}: others keep changing {key}")

    def _read(self, kind: Kind, ids: Sequence[str]) -> Mapping[str, bytes]:
        keys = [key_of(kind, id, self._prefix) for id in ids]
        if len(keys) == 1:
            found: Iterable[Any] = [self._fetch(keys[0])]
        else:
            with ThreadPoolExecutor(_AT_ONCE) as several:
                found = list(several.map(self._fetch, keys))
        return {id: each[0] for id, each in zip(ids, found, strict=True) if each is not None and not each[2]}

    def _delete(self, kind: Kind, ids: Sequence[str]) -> None:
        self._remove([key_of(kind, id, self._prefix) for id in ids])

    def _sweep(self, now: float) -> int:
        gone: list[str] = []
        for kind in PREFIXES:
            pages = self._client.get().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=key_of(kind, "", self._prefix)):
                gone += [
                    each["Key"]
                    for each in page.get("Contents", ())
                    if self._lifetimes.over(None, each["LastModified"], now)
                ]
        for start in range(0, len(gone), _PER_DELETE):
            self._remove(gone[start : start + _PER_DELETE])
        return len(gone)

    def _fetch(self, key: str) -> tuple[bytes, str, bool] | None:
        """Content, tag, and whether its time is over; none when there is no such object."""
        try:
            answer = self._client.get().get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if _code(error) in _ABSENT:
                return None
            raise
        over = self._lifetimes.over(None, answer["LastModified"], time.time())
        return answer["Body"].read(), answer["ETag"], over

    def _remove(self, keys: Sequence[str]) -> None:
        objects = [{"Key": key} for key in keys]
        if objects:
            self._client.get().delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def open_s3(url: str, settings: Settings) -> S3Backend:
    """Make the backend for ``s3://`` with ``s3_bucket``, or ``s3://bucket/folder``.

    Raises: ConfigError when no bucket is named.
    """
    bucket, _, folder = url.partition("://")[2].partition("/")
    bucket = settings.s3_bucket or bucket
    if not bucket:
        raise ConfigError("result_backend s3:// needs a bucket: set s3_bucket")
    base = settings.s3_base_path or (f"{folder.rstrip('/')}/" if folder.strip("/") else "")
    secrets = settings.s3_access_key_id, settings.s3_secret_access_key

    def connect() -> Any:
        key, secret = (each.reveal() if each is not None else None for each in secrets)
        session = Session(aws_access_key_id=key, aws_secret_access_key=secret, region_name=settings.s3_region or None)
        if session.get_credentials() is None:
            raise ConfigError("result_backend s3:// needs a login: set s3_access_key_id and s3_secret_access_key")
        quick = Config(connect_timeout=5, read_timeout=15, max_pool_connections=_AT_ONCE * 2)
        return session.client("s3", endpoint_url=settings.s3_endpoint_url, config=quick)

    return S3Backend(bucket, base + key_prefix(settings), connect, Lifetimes.of(settings))
