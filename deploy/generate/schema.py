"""The schema of the chart's values: opsq's own settings out of their table, the rest from one table here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opsq.settings import OPTIONS
from opsq.settings_options import OptionInfo

Schema = dict[str, Any]

#: Settings that the chart gives itself, from values of their own.
GIVEN: Final = frozenset({
    "app", "broker_url", "broker_read_url", "broker_write_url", "result_backend", "monitor_store_url",
    "beat_store_url", "worker_health_host", "worker_health_port", "worker_shutdown_timeout", "worker_pidfile",
    "beat_pidfile", "web_host", "web_port", "web_url_prefix", "autoscale_groups",
})  # fmt: skip
_KINDS: Final[Mapping[str, Schema]] = {
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "str": {"type": "string"},
    "tuple[str, ...]": {"type": "array", "items": {"type": "string"}},
    "dict[str, object]": {"type": "object"},
    "None": {"const": "none"},
    "object": {},
}
_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_TABLE: Final[Schema] = {"type": "object"}
_LIST: Final[Schema] = {"type": "array", "items": {"type": "object"}}
_TEXTS: Final[Schema] = {"type": "array", "items": {"type": "string", "minLength": 1}}
_NAME: Final = "^[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?$"


def values_schema() -> Schema:
    """Return the JSON schema (draft 7, which Helm reads) of ``values.yaml``."""
    shown = {name: info for name, info in OPTIONS.items() if not (info.secret or info.inert or name in GIVEN)}
    secret = [name for name, info in OPTIONS.items() if (info.secret or info.url) and name not in GIVEN]
    definitions = {
        "settings": _closed({name: setting_schema(info) for name, info in shown.items()}),
        "secretSettings": {
            "type": "object",
            "propertyNames": {"enum": sorted({*secret, *shown})},
            "additionalProperties": _closed({"name": _filled(), "key": _filled()}, "name", "key"),
        },
        "url": _url(),
        "group": _group(),
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of opsq's chart",
        "definitions": definitions,
        **_closed(_values()),
    }


def setting_schema(info: OptionInfo) -> Schema:
    """Return the schema of one setting, with its bounds and words."""
    kinds = [_bounded(dict(_KINDS[kind]), info) for kind in info.kinds if kind in _KINDS]
    words = [word for word in info.synonyms if isinstance(word, str)]
    if words:
        kinds.append({"enum": words})
    # Helm takes a null for "not given", so the word says it.
    made = kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if {} not in kinds else {}
    return {"description": info.doc, **made}


def _bounded(kind: Schema, info: OptionInfo) -> Schema:
    if kind.get("type") in ("integer", "number"):
        kind |= {word: bound for word, bound in (("minimum", info.min), ("maximum", info.max)) if bound is not None}
    if kind.get("type") == "string" and info.choices:
        kind["enum"] = list(info.choices)
    return kind


def _closed(properties: Mapping[str, Schema], *required: str) -> Schema:
    """Allow these keys and no others, so that a typing mistake is refused by its name."""
    made: Schema = {"type": "object", "additionalProperties": False, "properties": dict(properties)}
    return made | ({"required": list(required)} if required else {})


def _filled(pattern: str = "") -> Schema:
    return {"type": "string", "minLength": 1} | ({"pattern": pattern} if pattern else {})


def _whole(least: int, most: int | None = None, *, none: bool = False) -> Schema:
    made: Schema = {"type": ["integer", "null"] if none else "integer", "minimum": least}
    return made | ({"maximum": most} if most is not None else {})


def _words(*words: str) -> Schema:
    return {"enum": list(words)}


def _url() -> Schema:
    return _closed({"url": _TEXT, "existingSecret": _closed({"name": _TEXT, "key": _filled()})})


def _probes() -> Schema:
    probe = _closed({name: _whole(1) for name in ("periodSeconds", "timeoutSeconds", "failureThreshold")}
                    | {"initialDelaySeconds": _whole(0)})  # fmt: skip
    return _closed(dict.fromkeys(("startup", "liveness", "readiness"), probe))


def _placed() -> dict[str, Schema]:
    """Where and how pods of every part run."""
    return {
        "settings": {"$ref": "#/definitions/settings"},
        "resources": _closed({"requests": _TABLE, "limits": _TABLE, "claims": _LIST}),
        "nodeSelector": _TABLE, "tolerations": _LIST, "affinity": _TABLE, "priorityClassName": _TEXT,
        "podAnnotations": _TABLE, "podLabels": _TABLE, "podDisruptionBudget": _budget(),
        "topologySpread": _FLAG, "topologySpreadConstraints": _LIST,
    }  # fmt: skip


def _budget() -> Schema:
    return _closed({"enabled": _FLAG, "maxUnavailable": {"type": ["integer", "string"]}})


def _group() -> Schema:
    pools = {"anyOf": [_words("prefork", "threads", "solo", "asyncio", "gevent", "eventlet"), _filled("^[^:]+:[^:]+$")]}
    scaling = _closed({
        "type": _words("none", "hpa", "keda", "opsq"),
        "minReplicas": _whole(0), "maxReplicas": _whole(1), "startupSeconds": _whole(0),
        "scaleDownStabilizationSeconds": _whole(0, 3600), "pollingInterval": _whole(1), "cooldownPeriod": _whole(0),
        "fallbackReplicas": _whole(0),
    })  # fmt: skip
    return _closed({
        **_placed(),
        "enabled": _FLAG, "replicas": _whole(0), "queues": _TEXTS, "excludeQueues": _TEXTS, "pool": pools,
        "concurrency": _whole(1, 100_000),
        "poolAutoscale": _closed({"min": _whole(0), "max": _whole(1, none=True)}),
        "extraArgs": _TEXTS, "env": _LIST, "envFrom": _LIST, "autoscaling": scaling,
        "terminationGracePeriodSeconds": _whole(1, none=True), "updateStrategy": _TABLE, "probes": _probes(),
        "volumes": _LIST, "volumeMounts": _LIST,
    })  # fmt: skip


def _volume(**more: Schema) -> Schema:
    size = _filled(r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?)?$")
    return _closed({"enabled": _FLAG, "size": size, "storageClass": _TEXT, "existingClaim": _TEXT, **more})


def _beat() -> Schema:
    return _closed({
        **_placed(),
        "enabled": _FLAG, "replicas": _whole(1), "store": {"$ref": "#/definitions/url"}, "sharedStore": _FLAG,
        "persistence": _volume(),
    })  # fmt: skip


def _monitor() -> Schema:
    modes = {"type": "array", "items": _words("ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"), "minItems": 1}
    history = _url()
    history["properties"]["persistence"] = _volume(accessModes=modes)
    service = {"type": _words("ClusterIP", "NodePort", "LoadBalancer"), "port": _whole(1, 65535), "annotations": _TABLE}
    return _closed({
        **_placed(),
        "enabled": _FLAG, "replicas": _whole(1), "port": _whole(1024, 65535),
        "urlPrefix": {"type": "string", "pattern": "^(/[^/]+)*$"}, "allowedHosts": _TEXTS, "history": history,
        "terminationGracePeriodSeconds": _whole(10), "probes": _probes(),
        "service": _closed(service),
    })  # fmt: skip


def _metrics() -> Schema:
    duration = _filled("^[0-9]+(ms|s|m|h)$")
    scraped = _closed({"enabled": _FLAG, "interval": duration, "scrapeTimeout": duration, "labels": _TABLE})
    return _closed({
        "serviceMonitor": scraped, "podMonitor": scraped,
        "rules": _closed({"enabled": _FLAG, "labels": _TABLE}),
        "dashboards": _closed({"enabled": _FLAG, "labels": _TABLE, "annotations": _TABLE}),
    })  # fmt: skip


def _values() -> dict[str, Schema]:
    image = {
        "repository": _TEXT, "tag": _TEXT, "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
        "pullPolicy": _words("Always", "IfNotPresent", "Never"), "pullSecrets": _LIST,
    }  # fmt: skip
    host = _closed({"host": _filled(), "path": _filled("^/")}, "host")
    url = {"$ref": "#/definitions/url"}
    return {
        "global": _TABLE, "nameOverride": _TEXT, "fullnameOverride": _TEXT, "image": _closed(image),
        "app": {"type": "string", "pattern": r"^([\w.]+(:[\w.]+)?)?$"},
        "broker": url, "results": url, "settings": {"$ref": "#/definitions/settings"},
        "secretSettings": {"$ref": "#/definitions/secretSettings"}, "env": _LIST, "envFrom": _LIST,
        "workerDefaults": {"$ref": "#/definitions/group"},
        "workers": {
            "type": "object", "propertyNames": {"pattern": _NAME},
            "additionalProperties": {"$ref": "#/definitions/group"},
        },
        "beat": _beat(), "monitor": _monitor(), "admin": _closed({"existingSecret": _TEXT}),
        "migrations": _closed({
            "enabled": _FLAG, "backoffLimit": _whole(0), "activeDeadlineSeconds": _whole(1),
        }),
        "ingress": _closed({
            "enabled": _FLAG, "className": _TEXT, "annotations": _TABLE, "hosts": {"type": "array", "items": host},
            "tls": _LIST,
        }),
        "metrics": _metrics(),
        "networkPolicy": _closed({"enabled": _FLAG, "monitorFrom": _LIST, "egress": _LIST}),
        "serviceAccount": _closed({"create": _FLAG, "name": _TEXT, "annotations": _TABLE}),
        "podSecurityContext": _TABLE, "securityContext": _TABLE, "tests": _closed({"enabled": _FLAG}),
    }  # fmt: skip
