"""What every answer promises, what is turned away, and that templates hold nothing inline."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from opsq.errors import ConfigError
from opsq.web.render import TEMPLATE_DIR
from opsq.web.security import CONTENT_SECURITY_POLICY, is_loopback, same_origin
from opsq.web.server import Address, bind
from tests.web.conftest import Get

TEMPLATES = sorted(TEMPLATE_DIR.rglob("*.html"))


PATHS = ["/", "/tasks/x", "/api/v1/overview", "/metrics", "/healthz", "/static/app.css", "/no"]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_carries_the_policy(get: Get, path: str) -> None:
    headers = get(path).headers
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_nothing_inline_in_a_template(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|hx-on|\|\s*safe", text)
    for script in re.findall(r"<script[^>]*>", text):
        assert "src=" in script or 'type="application/json"' in script
    for data in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL):
        assert re.fullmatch(r"\{\{[^{}]*\|\s*tojson\s*\}\}", data.strip()), "data that could end its own block"
    assert "Markup" not in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5555", "", "127.0.0.1.evil.example"])
def test_another_host_is_turned_away(get: Get, host: str) -> None:
    answer = get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "answers only to the names" in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "same-origin"}, 405),
        ({"origin": "http://testserver"}, 405),
        ({}, 405),
    ],
)
def test_a_write_must_come_from_the_page(get: Get, headers: dict[str, str], status: int) -> None:
    assert get("/tasks", method="POST", headers=headers).status_code == status


def test_same_origin_reads_the_browser_before_the_origin() -> None:
    assert not same_origin(Headers({"sec-fetch-site": "cross-site", "origin": "http://a", "host": "a"}))
    assert same_origin(Headers({"origin": "http://A:5555", "host": "a:5555"}))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
     ("10.0.0.1", False), ("example.com", False), ("::", False)],
)  # fmt: skip
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_no_login_means_loopback_only() -> None:
    with pytest.raises(ConfigError, match=r"served on loopback only, not on 0\.0\.0\.0 .*opsq users add"):
        bind(Address("0.0.0.0", 0), everybody=True)
    with bind(Address("0.0.0.0", 0), everybody=False) as sock:
        assert sock.getsockname()[1] > 0


def test_a_taken_port_is_said_in_one_sentence() -> None:
    with bind(Address("127.0.0.1", 0), everybody=True) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} on 127\.0\.0\.1 is taken .* --port or web_port"):
            bind(Address("127.0.0.1", port), everybody=True)
