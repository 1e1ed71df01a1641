"""Results in MongoDB, in Celery's collections: ``mongodb://user:password@host/database``.

One conditional replace per result, so a SUCCESS is never replaced. What Celery keeps as a plain value
(children, arguments) is one here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pymongo
from bson.binary import Binary
from bson.errors import BSONError
from pymongo.errors import ConfigurationError, DuplicateKeyError, InvalidName, InvalidURI, PyMongoError, WriteError
from pymongo.uri_parser import parse_uri

from opsq.clock import Clock, SystemClock
from opsq.core.backends.base import Capabilities, Kind
from opsq.core.backends.fields import Fields, date_of, readable, said_date
from opsq.core.backends.lifetimes import Lifetimes
from opsq.core.backends.per_process import PerProcess
from opsq.core.backends.polled import PolledBackend
from opsq.errors import ConfigError
from opsq.masking import mask_url
from opsq.settings import Settings
from opsq.wire.result import ResultMeta
from opsq.wire.saferepr import saferepr
from opsq.wire.states import FAILURE, SUCCESS

DATABASE: Final = "celery"
COLLECTIONS: Final[Mapping[str, str]] = {"task": "celery_taskmeta", "group": "celery_groupmeta"}
_EXTENDED: Final = ("name", "args", "kwargs", "worker", "retries", "queue")
_PATIENCE_MS: Final = 10_000
_PLACES: Final = ("host", "port", "user", "password", "mongo_host")


class MongoBackend(PolledBackend):
    """Two collections of one database. options: of ``MongoClient``. collections: names by kind."""

    def __init__(
        self,
        name: str,
        database: str,
        collections: Mapping[str, str],
        options: Mapping[str, Any],
        fields: Fields,
        lifetimes: Lifetimes,
        clock: Clock | None = None,
    ) -> None:
        can = Capabilities(
            counts=False, expires=False, notifies=False, cross_process=True, keeps="fields", lifetimes="store"
        )
        super().__init__(name, can, (PyMongoError, OSError))
        self.fields = fields
        self._database = database
        self._collections = collections
        self._options = dict(options)
        self._lifetimes = lifetimes
        self._clock = clock or SystemClock()
        self._client: PerProcess[pymongo.MongoClient[Any]] = PerProcess(self._connect, lambda client: client.close())

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _write(self, kind: Kind, id: str, payload: bytes, state: str, ttl_s: float | None) -> bool:
        if kind == "group":
            self._collection(kind).replace_one({"_id": id}, self._group_row(id, payload), upsert=True)
            return True
        replaceable = {"_id": id, "$or": [{"status": {"$ne": SUCCESS}}, *self._over(self._clock.now())]}
        row = self._row(id, self.fields.record(payload))
        for _ in range(2):
            try:
                self._replace(replaceable, row)
            except DuplicateKeyError:
                continue  # a SUCCESS is there, or somebody else made the row in between
            return True
        return False

    def _replace(self, replaceable: Mapping[str, Any], row: dict[str, Any]) -> None:
        # FerretDB has no lists in lists, and BSON no type for some arguments; that must not cost the result.
        for retreat in ("children", "arguments", ""):
            try:
                self._collection("task").replace_one(replaceable, row, upsert=True)
                return
            except DuplicateKeyError:
                raise
            except (BSONError, OverflowError, WriteError):
                if retreat == "children":
                    row["children"] = self._stored(row["children"])
                elif retreat == "arguments" and "args" in row:
                    row |= {name: saferepr(row[name]) for name in ("args", "kwargs")}
                else:
                    raise

    def _read(self, kind: Kind, ids: Sequence[str]) -> Mapping[str, bytes]:
        now = self._clock.now()
        found = self._collection(kind).find({"_id": {"$in": list(ids)}})
        make = self._document if kind == "task" else self._group_document
        return {
            row["_id"]: make(row)
            for row in found
            if not self._lifetimes.over(row.get("status"), row.get("date_done"), now)
        }

    def _marks(self, ids: Sequence[str]) -> Mapping[str, object]:
        found = self._collection("task").find({"_id": {"$in": list(ids)}}, {"status": 1, "date_done": 1})
        return {row["_id"]: (row.get("status"), row.get("date_done")) for row in found}

    def _delete(self, kind: Kind, ids: Sequence[str]) -> None:
        self._collection(kind).delete_many({"_id": {"$in": list(ids)}})

    def _sweep(self, now: float) -> int:
        over = self._over(now)
        if not over:
            return 0
        return sum(int(self._collection(kind).delete_many({"$or": over}).deleted_count) for kind in ("task", "group"))

    def _over(self, now: float) -> list[dict[str, Any]]:
        failures, others = self._lifetimes.cutoffs(now)
        conditions: list[tuple[Any, dict[str, Any]]] = [
            (failures, {"status": FAILURE}),
            (others, {"status": {"$ne": FAILURE}}),
        ]
        return [{**which, "date_done": {"$lte": date}} for date, which in conditions if date is not None]

    def _collection(self, kind: Kind) -> Any:
        return self._client.get()[self._database][self._collections[kind]]

    def _row(self, id: str, meta: ResultMeta) -> dict[str, Any]:
        row: dict[str, Any] = {
            "_id": id,
            "status": meta.status,
            "result": self._stored(meta.result),
            "date_done": date_of(meta, self._clock.now()),
            "traceback": meta.traceback,
            "children": meta.children or [],
        }
        if meta.group_id:
            row["group_id"] = meta.group_id
        if meta.parent_id:
            row["parent_id"] = meta.parent_id
        if meta.extended:
            row |= {name: getattr(meta, name) for name in _EXTENDED}
            if meta.stamped_headers:
                row |= {**meta.stamps, "stamped_headers": meta.stamped_headers}
        return row

    def _document(self, row: Mapping[str, Any]) -> bytes:
        stamped, children = row.get("stamped_headers"), row.get("children")

        def make() -> bytes:
            extended: dict[str, Any] = {name: row.get(name) for name in _EXTENDED}
            meta = ResultMeta(
                task_id=row["_id"],
                status=row["status"],
                result=self.fields.decode(row["result"]),
                traceback=row.get("traceback"),
                children=self.fields.decode(children) if isinstance(children, (str, bytes)) else children,
                date_done=said_date(row["status"], row.get("date_done")),
                group_id=row.get("group_id"),
                parent_id=row.get("parent_id"),
                extended="name" in row,
                stamped_headers=stamped,
                stamps={name: row[name] for name in stamped or () if name in row},
                **extended,
            )
            return self.fields.document(meta)

        return readable(make, row.get("result"))

    def _group_row(self, id: str, payload: bytes) -> dict[str, Any]:
        # Celery keeps the members' ids, and nothing of groups in groups; those are kept as a tree.
        members = self.fields.members(payload)
        plain = [member[0][0] for member in members[1] if member[1] is None] if members[1] is not None else []
        kept = plain if len(plain) == len(members[1] or ()) else members
        return {"_id": id, "result": self._stored(kept), "date_done": datetime.fromtimestamp(self._clock.now(), UTC)}

    def _group_document(self, row: Mapping[str, Any]) -> bytes:
        def make() -> bytes:
            kept = self.fields.decode(row["result"])
            if all(isinstance(member, str) for member in kept):
                kept = [[row["_id"], None], [[[member, None], None] for member in kept]]
            return self.fields.group(kept)

        return readable(make, row.get("result"))

    def _stored(self, value: object) -> str | Binary:
        """One value as Celery keeps it: text where it is text."""
        data = self.fields.encode(value)
        try:
            return data.decode("utf-8") if self.fields.content[1] != "binary" else Binary(data)
        except UnicodeDecodeError:  # compressed
            return Binary(data)

    def _connect(self) -> pymongo.MongoClient[Any]:
        try:
            client: pymongo.MongoClient[Any] = pymongo.MongoClient(**self._options)
        except (ConfigurationError, InvalidURI, TypeError, ValueError) as error:
            raise ConfigError(f"result_backend {self._name}: {error}") from None
        try:
            for name in self._collections.values():
                client[self._database][name].create_index("date_done")
        except BaseException as error:
            client.close()
            if isinstance(error, InvalidName):
                raise ConfigError(f"result_backend {self._name}: {error}") from None
            raise
        return client


def open_mongodb(url: str, settings: Settings) -> MongoBackend:
    """Make the backend for ``mongodb://`` or ``mongodb+srv://`` and ``mongodb_backend_settings``.

    Raises: ConfigError for a URL that is none.
    """
    given = dict(settings.mongodb_backend_settings or {})
    url = url if url.partition("://")[2] else f"{url}localhost"
    try:
        place = parse_uri(url)
    except (ConfigurationError, InvalidURI, ValueError) as error:
        raise ConfigError(f"result_backend {mask_url(url)!r}: {error}") from None
    database = str(given.pop("database", None) or place["database"] or DATABASE)
    collections = {kind: str(given.pop(f"{kind}meta_collection", name)) for kind, name in COLLECTIONS.items()}
    options: dict[str, Any] = {"host": url, "maxPoolSize": 10, "serverSelectionTimeoutMS": _PATIENCE_MS}
    options |= _place(given)
    options |= {**_mapping(given.pop("options", None)), **given}
    fields = Fields(settings, compress=True)
    return MongoBackend(mask_url(url), database, collections, options, fields, Lifetimes.of(settings))


def _place(given: dict[str, Any]) -> dict[str, Any]:
    """Parts of the address, which win over the URL's; taken out of ``given``."""
    parts = {name: given.pop(name) for name in _PLACES if name in given}
    place = {"username": parts.get("user"), "password": parts.get("password")}
    host = parts.get("mongo_host") or parts.get("host")
    if host or parts.get("port"):
        place |= {"host": host or "localhost", "port": parts.get("port")}
    return {name: value for name, value in place.items() if value}


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
