"""``examples/migrate_from_celery`` under Celery, and under opsq with other imports: the same comes of both."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.interop import cases, peers
from tests.interop.conftest import Broker
from tests.interop.peers import ROOT, Peer, Place

FOLDER = ROOT / "examples" / "migrate_from_celery"
SOURCE = {"celery": FOLDER / "tasks_with_celery.py", "opsq": FOLDER / "tasks.py"}
TICKS = ("mail to subscribers", "mail to pen pals")
CLIENT = """
import json, shop

def end(result):
    try:
        return result.get(timeout=20)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

asked = {name: work.apply_async() for name, (work, _) in shop.workflows().items()}
asked["double"] = shop.double.delay(21)
asked["unsteady"] = shop.unsteady.delay(2)
asked["retried"] = shop.retried_by_itself.delay()
asked["hopeless"] = shop.hopeless.delay()
asked["rows"] = shop.import_rows.delay([1, 2, 3])
asked["fails"] = shop.fails.apply_async(("why",), link_error=shop.on_failure.s())
asked["wrong price"] = shop.price.delay("nothing")
who = shop.whoami.delay()
told = {name: end(result) for name, result in asked.items()}
told["who"] = {**end(who), "id": end(who)["id"] == who.id}
told["again"] = shop.later(asked["double"].id)
told["expected"] = all(told[name] == expected for name, (_, expected) in shop.workflows().items())
shop.mail.delay("somebody")
shop.skipped.delay()
print(json.dumps(told, sort_keys=True))
"""


class ShopPlace(Place):
    """A place that the example's settings find."""

    def environment(self, library: str, settings: Mapping[str, Any]) -> dict[str, str]:
        """As of any place, and what the example reads."""
        found = super().environment(library, settings)
        return found | {"SHOP_BROKER": self.broker, "SHOP_RESULTS": self.results}


@contextmanager
def shop(library: str, broker: Broker, folder: Path) -> Iterator[tuple[Peer, dict[str, str]]]:
    """The example on a broker of its own: its worker, with the schedule, and the environment of its clients."""
    folder.mkdir()
    (folder / "shop.py").write_text(SOURCE[library].read_text())
    place = ShopPlace(broker.apart(), broker.apart(), "celery", folder)
    quick = ("--without-mingle", "--without-gossip") if library == "celery" else ()
    words = ("-m", library, "-A", "shop", "worker", "-B", "-c", "2", "-l", "INFO", *quick)
    peer = peers.spawn(place, library, "shop", *words, settings={})
    try:
        yield peer, place.environment(library, {})
    finally:
        peer.stop()


def answers(library: str, peer: Peer, environment: dict[str, str]) -> dict[str, Any]:
    """What a client of the example gets, once the schedule has been seen to work."""
    peer.wait_for("ready")
    done = subprocess.run(
        [peers.python_of(library), "-c", CLIENT],
        cwd=peer.log.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + peer.text()
    for words in (*TICKS, "mail to somebody"):
        cases.until(lambda words=words: words in peer.text(), words)  # type: ignore[misc]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_the_same_comes_of_the_shop_before_and_after(broker: Broker, tmp_path: Path) -> None:
    with ExitStack() as stack, ThreadPoolExecutor() as both:
        started = {library: stack.enter_context(shop(library, broker, tmp_path / library)) for library in SOURCE}
        told = dict(zip(started, both.map(lambda each: answers(each[0], *each[1]), started.items()), strict=True))
    assert told["opsq"]["expected"] is True
    assert told["opsq"]["fails"] == "ValueError: why"
    assert told["opsq"] == told["celery"]
