"""The demo: hash, compress, index and shrink the files of a folder, for as long as it runs.

    opsq up -A examples.demo.app

What goes wrong goes wrong for real: some pictures are cut short and fail, the catalogue is locked
while it is being rebuilt so that entries are retried, and rebuilding it takes a while. Now and then a schedule
begins a workflow: pictures are shrunk side by side and then put on one sheet.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any

from PIL import Image

from examples.demo.feeder import Feeder
from examples.demo.folder import BROKEN_EVERY, HOME, PICTURES, SOURCE, TARGET
from examples.demo.ledger import Ledger
from opsq import Opsq, chord
from opsq.signals import task_failure, task_prerun, task_retry, task_success

ALBUM_PICTURES = 6
ALBUM_WIDTH = 96

app = Opsq("demo", task_time_limit=60, result_expires=3600)


@app.task
def hash_file(name: str) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with (SOURCE / name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@app.task
def compress_file(name: str) -> dict[str, int]:
    """Write a gzip copy of a file; return both sizes in bytes."""
    data = (SOURCE / name).read_bytes()
    packed = gzip.compress(data, compresslevel=9)
    _write_whole(TARGET / f"{name}.gz", packed)
    return {"before": len(data), "after": len(packed)}


@app.task
def index_file(name: str) -> dict[str, int]:
    """Count the words of a text file and keep the counts; return the ten most frequent."""
    counts = Counter((SOURCE / name).read_text().split())
    _write_whole(TARGET / f"{name}.words.json", json.dumps(counts).encode())
    return dict(counts.most_common(10))


@app.task
def thumbnail(name: str, width: int = 160) -> list[int]:
    """Write a small copy of a picture; return its size in pixels. A picture cut short fails."""
    with Image.open(SOURCE / name) as picture:
        small = picture.convert("RGB")
        small.thumbnail((width, width))
        TARGET.mkdir(parents=True, exist_ok=True)
        small.save(_small(name, width))
        return list(small.size)


@app.task(autoretry_for=(BlockingIOError,), retry_backoff=1, retry_backoff_max=4, max_retries=8)
def add_to_catalogue(name: str) -> int:
    """Append a file to the catalogue; return its size in bytes. Retried while the catalogue is locked."""
    size = (SOURCE / name).stat().st_size
    with _catalogue() as file:
        file.seek(0, os.SEEK_END)
        file.write(json.dumps({"name": name, "size": size}) + "\n")
    return size


@app.task(soft_time_limit=30)
def rebuild_catalogue() -> int:
    """Sort the catalogue and drop what it says twice, holding its lock; return the entries kept. Slow."""
    with _catalogue() as file:
        file.seek(0)
        entries = {json.loads(line)["name"]: line for line in file if line.strip()}
        for name in sorted(entries):
            # Read every file again, as a catalogue that does not trust itself would.
            hashlib.sha256((SOURCE / name).read_bytes()).hexdigest()
            time.sleep(0.03)
        file.seek(0)
        file.truncate()
        file.writelines(entries[name] for name in sorted(entries))
    return len(entries)


@app.task
def make_album() -> str:
    """Have pictures shrunk side by side and then put on one sheet: a workflow. Return the id of its last task."""
    first = random.randrange(0, PICTURES, BROKEN_EVERY)  # the last one of so many is cut short
    names = [f"photo-{number:02}.png" for number in range(first, first + ALBUM_PICTURES)]
    return str(chord([thumbnail.s(name, ALBUM_WIDTH) for name in names], put_on_sheet.s(names)).delay().id)


@app.task
def put_on_sheet(sizes: list[list[int]], names: list[str]) -> list[int]:
    """Put small copies of pictures, of these sizes in pixels, beside each other; return the size of the whole."""
    sheet = Image.new("RGB", (sum(width for width, _ in sizes), max(height for _, height in sizes)))
    left = 0
    for (width, _), name in zip(sizes, names, strict=True):
        with Image.open(_small(name, ALBUM_WIDTH)) as picture:
            sheet.paste(picture, (left, 0))
        left += width
    sheet.save(TARGET / "album.jpg")
    return list(sheet.size)


@app.task
def weigh_files() -> int:
    """Return the size in bytes of all that was made; what the schedule calls."""
    return sum(path.stat().st_size for path in TARGET.glob("*") if path.is_file())


if "DEMO_SECONDS" not in os.environ:  # a demo that ends counts its calls, and a tick after the count is one too many
    app.conf.beat_schedule = {
        "weigh": {"task": "examples.demo.app.weigh_files", "schedule": 5.0},
        "album": {"task": "examples.demo.app.make_album", "schedule": 20.0},
    }


def _catalogue() -> IO[str]:
    """Open the catalogue and lock it; BlockingIOError when another process holds the lock."""
    TARGET.mkdir(parents=True, exist_ok=True)
    file = (TARGET / "catalogue.jsonl").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    return file


def _small(name: str, width: int) -> Path:
    return TARGET / f"{Path(name).stem}-{width}.jpg"


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)


ledger = Ledger(HOME / "ledger.txt")


@task_prerun.connect
def _ran(task_id: str, **_: Any) -> None:
    ledger.note("executed", task_id)


@task_success.connect
def _succeeded(sender: Any, **_: Any) -> None:
    ledger.note("succeeded", sender.request.id)


@task_failure.connect
def _failed(task_id: str, **_: Any) -> None:
    ledger.note("failed", task_id)


@task_retry.connect
def _retried(request: Any, **_: Any) -> None:
    ledger.note("retried", request.id)


app.steps["worker"].add(Feeder)
