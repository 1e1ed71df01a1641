"""Make the folder of files that the demo works on.

Everything is generated from a seed, so two machines see the same files: prose-like text, noisy
PNG pictures, and a few pictures that are cut short on purpose, because real folders have them.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from PIL import Image

HOME = Path(os.environ.get("DEMO_HOME", ".opsq/demo/files"))
SOURCE = HOME / "in"
TARGET = HOME / "out"
WORDS = (
    "harbour lantern copper meadow signal orchard granite ribbon thunder velvet compass glacier "
    "pepper anchor willow marble beacon saffron timber canyon feather quartz ember juniper"
)
TEXTS = 40
PICTURES = 24
BROKEN_EVERY = 8
PICTURE_SIZE = (640, 480)


def make_folder(folder: Path, seed: int = 7) -> list[Path]:
    """Fill ``folder`` once and return its files, sorted; later calls find it full."""
    done = folder / ".complete"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        chance = random.Random(seed)
        for number in range(TEXTS):
            _write_text(folder / f"note-{number:02}.txt", chance)
        for number in range(PICTURES):
            _write_picture(folder / f"photo-{number:02}.png", chance, broken=number % BROKEN_EVERY == BROKEN_EVERY - 1)
        done.touch()
    return sorted(path for path in folder.iterdir() if path.suffix in (".txt", ".png"))


def _write_text(path: Path, chance: random.Random) -> None:
    words = chance.choices(WORDS.split(), k=chance.randint(2_000, 20_000))
    path.write_text(" ".join(words))


def _write_picture(path: Path, chance: random.Random, *, broken: bool) -> None:
    small = Image.frombytes("RGB", (32, 24), chance.randbytes(32 * 24 * 3))
    small.resize(PICTURE_SIZE, Image.Resampling.BICUBIC).save(path)
    if broken:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 3])
