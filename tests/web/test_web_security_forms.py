"""In a real browser: a form of another site does nothing, with or without a login."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from opsq.cli.hands import FleetHands
from opsq.settings import Settings
from opsq.web.hands import CallAgain
from opsq.web.server import Address, WebServer
from tests.web.chromium import Chromium, find_chromium
from tests.web.world import World

pytestmark = pytest.mark.skipif(
    find_chromium() is None and not os.environ.get("CI"), reason="no Chromium here; CI has one"
)


@contextmanager
def other_site(target: str) -> Iterator[str]:
    """Another origin, with forms that would act on ours."""
    page = f"""<!doctype html><title>evil</title>
    <form id="form" method="post" action="{target}act/queue-purge">
      <input name="target" value="mail"><input name="confirm" value="mail"></form>
    <form id="plain" method="post" enctype="text/plain" action="{target}api/v1/queues/mail/purge">
      <input name='{{"confirm": "mail", "x": "' value='"}}'></form>""".encode()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        # Another name for the same machine is another site.
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)


def test_a_form_of_another_site_is_refused(tmp_path: Path) -> None:
    hands = FleetHands(Settings().replace(data_dir=str(tmp_path / "data")))
    hands.send(CallAgain(name="shop.x", args=(), kwargs={}, queue="mail"))
    deps = replace(World().deps(), hands=hands)
    server = WebServer(deps, Address("127.0.0.1", 0))
    server.start()
    try:
        with other_site(server.address.url) as evil, Chromium() as browser:
            for form in ("form", "plain"):
                browser.open(evil)
                browser.value(f"void document.getElementById('{form}').submit()")
                text = read_when_at(browser, server.address.url)
                assert "this request came from another site" in text
            browser.open(evil)
            purge = f"{server.address.url}api/v1/queues/mail/purge"
            sent = f"fetch('{purge}', {{method: 'POST', mode: 'no-cors', body: '{{}}'}})"
            browser.value(f"{sent}.then(() => 'sent', error => 'not sent')")
            read = f"fetch('{server.address.url}api/v1/overview').then(a => a.text(), error => 'not readable')"
            assert browser.value(read) == "not readable"
        assert len(hands.peek("mail", 5)) == 1
        assert deps.trail is not None
        assert deps.trail.page() == ()
    finally:
        server.stop(3.0)
        hands.close()


def read_when_at(browser: Chromium, url: str) -> str:
    """Wait until the form's answer is there, and read it."""
    for _ in range(1500):
        try:
            if browser.value(f"location.href.startsWith({url!r}) && document.readyState === 'complete'"):
                return str(browser.value("document.documentElement.innerText"))
        except RuntimeError:
            continue  # the old page went away while it was asked
        threading.Event().wait(0.02)
    raise AssertionError("the form was not answered")
