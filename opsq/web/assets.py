"""Static files, read once and served from memory under names that carry their content's hash.

A name with the hash never changes its content, so browsers may keep it for ever; the plain name answers
too, and is asked about each time.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import Response

from opsq.errors import OpsqError

STATIC_DIR = Path(__file__).parent / "static"
SERVED_SUFFIXES = frozenset({".css", ".js", ".svg", ".txt"})
_HASH_LENGTH = 12
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file. name: path below ``static/``. digest: start of its SHA-256, in hexadecimal."""

    name: str
    content: bytes
    media_type: str
    digest: str

    @property
    def hashed_name(self) -> str:
        """The name that changes when the content does: ``app.<digest>.css``."""
        stem, dot, suffix = self.name.rpartition(".")
        return f"{stem}.{self.digest}{dot}{suffix}"


class Assets:
    """All static files by name. Thread: any, nothing changes after construction."""

    def __init__(self, files: Mapping[str, Asset]) -> None:
        self._plain = MappingProxyType(dict(files))
        self._hashed = MappingProxyType({asset.hashed_name: asset for asset in files.values()})

    @classmethod
    def load(cls, folder: Path = STATIC_DIR) -> Assets:
        """Read every served file below ``folder``."""
        found = sorted(path for path in folder.rglob("*") if path.suffix in SERVED_SUFFIXES)
        if not found:
            raise OpsqError(f"no static files in {folder}; the installation is incomplete, install opsq again")
        return cls({path.relative_to(folder).as_posix(): _read(path, folder) for path in found})

    def hashed(self, name: str) -> str:
        """Give the lasting name of a file. Raises KeyError when there is none, which a test would see."""
        return self._plain[name].hashed_name

    def names(self) -> list[str]:
        """List the plain names."""
        return list(self._plain)

    def respond(self, request: Request) -> Response:
        """Answer a request for a file; an unchanged one costs no body."""
        name = request.path_params["file"]
        lasting = self._hashed.get(name)
        asset = lasting or self._plain.get(name)
        if asset is None:
            return Response("No such file.\n", status_code=404, media_type="text/plain")
        headers = {"ETag": f'"{asset.digest}"', "Cache-Control": _FOR_EVER if lasting else _ASK_AGAIN}
        if asset.digest in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(asset.content, media_type=asset.media_type, headers=headers)


def _read(path: Path, folder: Path) -> Asset:
    content = path.read_bytes()
    media_type = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0] or "text/plain"
    digest = hashlib.sha256(content).hexdigest()[:_HASH_LENGTH]
    return Asset(path.relative_to(folder).as_posix(), content, media_type, digest)
