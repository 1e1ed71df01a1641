"""Static files: what others wrote is unchanged, names carry the hash, unchanged files cost nothing."""

from __future__ import annotations

import hashlib
import re
import tomllib

from opsq.web.assets import STATIC_DIR, Assets
from tests.web.conftest import Get

VENDOR = STATIC_DIR / "vendor"


def test_vendored_files_are_as_published_and_licensed() -> None:
    table = tomllib.loads((VENDOR / "VENDORED.toml").read_text())["file"]
    listed = {row["file"]: row for row in table}
    present = {path.name for path in VENDOR.iterdir()} - {"VENDORED.toml"}
    assert set(listed) == present
    for name, row in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == row["sha256"], name
        assert row["version"]
        assert row["licence"]


def test_a_hashed_name_is_kept_for_ever(get: Get) -> None:
    for name in re.findall(r'"(/static/[^"]+)"', get("/").text):
        answer = get(name)
        assert answer.status_code == 200, name
        assert "immutable" in answer.headers["cache-control"]


def test_a_plain_name_is_asked_about_each_time(get: Get) -> None:
    first = get("/static/app.css")
    assert first.headers["cache-control"] == "no-cache"
    again = get("/static/app.css", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert not again.content


def test_nothing_outside_the_folder_is_served(get: Get) -> None:
    for name in ("../app.py", "..%2fapp.py", "vendor/../../app.py", "vendor/VENDORED.toml", ""):
        assert get(f"/static/{name}").status_code == 404


def test_pages_are_compressed(get: Get) -> None:
    assert get("/tasks", headers={"accept-encoding": "gzip"}).headers["content-encoding"] == "gzip"


def test_all_files_are_small() -> None:
    assets = Assets.load()
    sizes = {name: len((STATIC_DIR / name).read_bytes()) for name in assets.names()}
    assert sum(size for name, size in sizes.items() if name.endswith(".js") and "vendor/" not in name) < 60_000
    assert sum(sizes.values()) < 220_000
