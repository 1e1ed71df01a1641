"""Pictures of every page: ``python -m tests.web.shots FOLDER [NAME]``, ``make shots`` for those of the documentation.

Shows the night of ``world.py`` through the real server in a headless Chromium: light and dark, 360, 1280 and 1920
pixels wide, written as small as they can be without looking worse.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from opsq.events.search import of
from opsq.web.server import Address, WebServer
from tests.web.chromium import Chromium
from tests.web.night_hands import NightHands
from tests.web.why_night import NightEyes, waiting_export
from tests.web.world import World, night

SIZES = ((1280, False), (1280, True), (360, False), (1920, False))
#: Pages that say little: one wide and one narrow picture are enough.
PLAIN = frozenset(
    {"tasks-none", "tasks-filter", "task-ok", "worker-up", "why-ran", "missing", "api", "act", "audit", "quarantine"}
)
#: A tall page is cut here: what is below says nothing new, and the pictures together stay below 3 MB.
TALLEST = 1800
STEP = 255 / 22
SURFACES = ((20, 16), (30, 24), (41, 34), (243, 0), (252, 247))
DRAWN = "[...document.querySelectorAll('.plot > .canvas')].every((each) => each.children.length)"


def pages(world: World) -> dict[str, str]:
    """Every page by the name of its picture."""
    worst, fine = (world.query.tasks(of(state=state), limit=1).items[0] for state in ("failed", "ok"))
    return {
        "overview": "?range=1h",
        "tasks": "tasks",
        "tasks-filter": "tasks?q=" + quote("queue:images -type:*.optimize run:>5x"),
        "tasks-none": "tasks?q=" + quote("state:failed queue:mail type:nothing"),
        "task-failed": "tasks/" + quote(worst.id),
        "task-ok": "tasks/" + quote(fine.id),
        "queues": "queues",
        "queue": "queues/reports",
        "workers": "workers",
        "worker": "workers/" + quote("opsq@reports-2", safe=""),
        "worker-up": "workers/" + quote("opsq@img-1", safe=""),
        "errors": "errors",
        "error": "errors/f1",
        "workflows": "workflows",
        "workflow": "workflows/" + quote(next(f.root for f in world.views.workflows() if f.members > 1)),
        "types": "types",
        "type": "types/shop.images.resize",
        "quarantine": "quarantine",
        "schedules": "schedules",
        "schedule": "schedules/shop.poll-stock",
        "autoscale": "autoscale?q=reports&least=2&most=32&within=60",
        "autoscale-dry": "autoscale?q=mail",
        "audit": "audit",
        "api": "api",
        "act": "act/queue-purge?target=reports",
        "why": "why/" + waiting_export(world),
        "why-ran": "why/" + quote(fine.id),
        "missing": "nothing/here",
    }


def server_of(world: World) -> WebServer:
    """The real server over a night."""
    deps = replace(world.deps(), eyes=NightEyes(world), hands=NightHands(world.clock))
    return WebServer(deps, Address("127.0.0.1", 0))


def shoot(folder: Path, only: str = "") -> list[str]:
    """Write the pictures; returns what browsers complained about."""
    folder.mkdir(parents=True, exist_ok=True)
    world = night()
    waiting_export(world, ahead=187, behind=225)
    server = server_of(world)
    server.start()
    complaints = []
    try:
        with Chromium() as browser:
            for name, path in pages(world).items():
                if not re.fullmatch(only or ".*", name):
                    continue
                for width, dark in SIZES[::2] if name in PLAIN else SIZES:
                    browser.look(width=width, dark=dark)
                    browser.open(server.address.url + path)
                    browser.until("document.fonts.status === 'loaded'")
                    browser.until(DRAWN)
                    _keep(browser, folder / f"{name}-{width}-{'dark' if dark else 'light'}.webp")
                    wide = browser.value("document.documentElement.scrollWidth")
                    if wide > width:
                        complaints.append(f"{name} at {width}: {wide} px wide")
                    complaints += [f"{name}: {line}" for line in browser.said if "404" not in line]
    finally:
        server.stop(3.0)
    return complaints


def _keep(browser: Chromium, path: Path) -> None:
    """Write the page, cut and with few colours: text and hairlines stay as sharp as they are."""
    raw = path.with_suffix(".png")
    browser.shoot(raw)
    with Image.open(raw) as picture:
        whole = picture.convert("RGB").crop((0, 0, picture.width, min(picture.height, TALLEST)))
        few = whole.point([_coarse(level) for level in range(256)] * 3)
        few.save(path, "WEBP", lossless=True, method=6)
    raw.unlink()


def _coarse(level: int) -> int:
    """Fewer levels of a colour, but for the surfaces, whose greys would get a tint."""
    return next((to for below, to in SURFACES if level < below), 255) if level < 41 or level > 242 else _step(level)


def _step(level: int) -> int:
    return round(round(level / STEP) * STEP)


if __name__ == "__main__":
    wanted = [*sys.argv[1:], "", ""]
    for complaint in shoot(Path(wanted[0] or "shots"), wanted[1]):
        print(complaint)
