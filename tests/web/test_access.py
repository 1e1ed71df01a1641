"""Who gets in, and to what: every route for every role and for strangers, cookies, tokens, limits, the file."""

from __future__ import annotations

import asyncio
import base64
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.exceptions import HTTPException

from opsq.clock import ManualClock
from opsq.errors import ConfigError
from opsq.web.access import accounts
from opsq.web.access.accounts import Accounts, Token, User
from opsq.web.access.door import Door, Visitor
from opsq.web.access.gate import STREAMS_EACH, Gate, local_target
from opsq.web.access.limits import MAX_KEYS, Allowance, Limiter
from opsq.web.access.passwords import hash_password, new_token, password_fits, readable
from opsq.web.access.permissions import PERMISSIONS, ROLES, Role, of_role
from opsq.web.access.sessions import Sessions, keep_key
from opsq.web.app import create_app
from opsq.web.hands import Hands
from opsq.web.routes import ROUTES
from tests.web.world import World

PASSWORD = "correct horse battery"
KEPT = hash_password(PASSWORD, n=1 << 8)
SAME = {"sec-fetch-site": "same-origin"}


class Site:
    """An application with accounts, asked by one browser."""

    def __init__(self, world: World, path: Path, admin_password: str | None = None, hands: Hands | None = None) -> None:
        self.clock = ManualClock(1_800_000_000.0)
        limiter = Limiter(self.clock)
        self.door = Door(path, admin_password, Sessions(b"k" * 32, 3600), limiter, self.clock)
        deps = world.deps()
        self.app = create_app(replace(deps, door=self.door, gate=Gate(self.door, limiter), hands=hands or deps.hands))
        self.cookies = httpx.Cookies()

    def ask(self, path: str, method: str = "GET", **options: object) -> httpx.Response:
        """Send one request; cookies are kept as a browser does."""

        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://testserver", cookies=self.cookies
            ) as session:
                answer = await session.request(method, path, **options)  # type: ignore[arg-type]
                self.cookies = session.cookies
                return answer

        return asyncio.run(one())

    def sign_in(self, name: str, password: str = PASSWORD, next: str = "/") -> httpx.Response:
        """Send the form."""
        return self.ask("/sign-in", "POST", data={"name": name, "password": password, "next": next}, headers=SAME)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "users.json"
    accounts.write(file, Accounts({role: User(role, KEPT) for role in ROLES}))
    return file


@pytest.fixture
def site(world: World, path: Path) -> Site:
    return Site(world, path)


def basic(name: str, password: str = PASSWORD) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.mark.parametrize("route", [r for r in ROUTES if r.kind != "live"], ids=lambda r: r.name)
def test_every_route_for_everybody(site: Site, route: object) -> None:
    """From the table: with the permission it is answered, without it is refused, strangers sign in."""
    assert hasattr(route, "permission")
    path = route.path.replace("{id:path}", "no-such-task").replace("{file:path}", "app.css")  # type: ignore[attr-defined]
    path = path.replace("{verb}", "retry").replace("{id}", "j-none")
    method, need = route.method, route.permission  # type: ignore[attr-defined]
    for role in (None, *ROLES):
        headers = {**SAME, **(basic(role) if role else {})}
        status = site.ask(path, method, headers=headers).status_code
        if need == "none":
            assert status not in (401, 403), (role, status)
        elif role is None:
            assert status in (303, 401), status
        elif need in of_role(role):
            assert status not in (303, 401, 403), (role, status)
        else:
            assert status == 403, (role, status)


def test_a_stranger_at_a_page_is_led_to_the_form_and_back(site: Site) -> None:
    answer = site.ask("/tasks?q=state:failed")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=%2Ftasks%3Fq%3Dstate%3Afailed"
    assert "password" in site.ask("/sign-in").text
    answer = site.sign_in("viewer", next="/tasks?q=state:failed")
    assert (answer.status_code, answer.headers["location"]) == (303, "/tasks?q=state:failed")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "viewer" in site.ask("/").text
    assert site.ask("/sign-out", "POST", headers=SAME).status_code == 303
    assert site.ask("/").status_code == 303


def test_a_program_gets_a_challenge(site: Site) -> None:
    answer = site.ask("/api/v1/overview")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert answer.json()["error"]["status"] == 401
    assert site.ask("/api/v1/overview", headers=basic("viewer")).status_code == 200
    assert site.ask("/api/v1/overview", headers=basic("viewer", "wrong")).status_code == 401
    assert site.ask("/api/v1/overview", headers={"authorization": "Basic !!"}).status_code == 401


def test_a_wrong_password_says_no_more_than_that(site: Site) -> None:
    wrong, nobody = site.sign_in("viewer", "wrong"), site.sign_in("nobody", "wrong")
    assert wrong.status_code == nobody.status_code == 401
    assert wrong.text.replace("viewer", "X") == nobody.text.replace("nobody", "X")


def test_guessing_is_stopped_and_forgotten(site: Site) -> None:
    for _ in range(5):
        assert site.sign_in("admin", "guess").status_code == 401
    answer = site.sign_in("admin")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) <= 60
    site.clock.advance(61)
    assert site.sign_in("admin").status_code == 303


def test_a_new_password_or_no_account_ends_the_session(site: Site, path: Path) -> None:
    site.sign_in("operator")
    assert site.ask("/").status_code == 200
    accounts.write(path, Accounts({"operator": User("operator", hash_password("another password"))}))
    assert site.ask("/").status_code == 303
    site.sign_in("operator", "another password")
    assert site.ask("/").status_code == 200
    accounts.write(path, Accounts())
    assert site.ask("/").status_code == 303


def test_a_session_ends_by_itself(site: Site) -> None:
    site.sign_in("operator")
    site.clock.advance(3601)
    assert site.ask("/").status_code == 303


@pytest.mark.parametrize("change", ["", "x", ".", "e30.AAAA", "a" * 4000])
def test_a_forged_cookie_is_nobody(site: Site, change: str) -> None:
    site.cookies.set("opsq_session", change)
    assert site.ask("/").status_code == 303


def test_another_key_or_another_name_does_not_fit(site: Site) -> None:
    theirs = Sessions(b"other" * 8, 3600).issue("admin", KEPT, site.clock.now())
    assert site.door.by_cookie(theirs) is None
    ours = Sessions(b"k" * 32, 3600).issue("viewer", KEPT, site.clock.now())
    assert site.door.by_cookie(ours) is not None
    signature = ours.partition(".")[2]
    forged = Sessions(b"k" * 32, 3600).issue("admin", KEPT, site.clock.now()).partition(".")[0]
    assert site.door.by_cookie(f"{forged}.{signature}") is None


def test_a_token_is_cut_down_and_ends(world: World, path: Path) -> None:
    shown, kept = new_token()
    ends = datetime.fromtimestamp(1_800_000_100.0, UTC)
    accounts.write(path, Accounts({}, {"prometheus": Token("viewer", kept, ("metrics",), ends)}))
    assert shown not in path.read_text()
    site = Site(world, path)
    bearer = {"authorization": f"Bearer {shown}"}
    assert site.ask("/metrics", headers=bearer).status_code == 200
    assert site.ask("/api/v1/overview", headers=bearer).status_code == 403
    assert site.ask("/metrics", headers={"authorization": f"Bearer {shown}x"}).status_code == 401
    site.clock.advance(101)
    assert site.ask("/metrics", headers=bearer).status_code == 401


def test_the_admin_of_the_settings(world: World, tmp_path: Path) -> None:
    site = Site(world, tmp_path / "none.json", admin_password=PASSWORD)
    assert site.sign_in("admin").status_code == 303
    assert site.ask("/").status_code == 200


def test_a_broken_file_lets_nobody_in(site: Site, path: Path) -> None:
    site.sign_in("admin")
    path.write_text("{")
    assert site.ask("/").status_code == 503
    assert "cannot be read" in site.ask("/api/v1/overview").json()["error"]["message"]


def test_a_write_by_cookie_needs_a_browser_that_says_where_it_comes_from(site: Site) -> None:
    site.sign_in("admin")
    assert site.ask("/sign-out", "POST", headers={"sec-fetch-site": "cross-site"}).status_code == 403


@pytest.mark.parametrize(
    ("wanted", "leads"),
    [
        ("/tasks?q=a", "/tasks?q=a"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
        ("", "/"),
    ],
)
def test_signing_in_leads_nowhere_else(wanted: str, leads: str) -> None:
    assert local_target(wanted) == leads


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a list of accounts"),
        ('{"users": {"anna": {"role": "boss", "password": ""}}}', "boss"),
        ('{"users": {"anna": {"role": "admin", "password": "geheim"}}}', "no scrypt text"),
        (f'{{"users": {{"a/b": {{"role": "admin", "password": "{KEPT}"}}}}}}', "a name is letters"),
        ('{"user": {}}', "user"),
        ('{"tokens": {"t": {"role": "viewer", "hash": "plain"}}}', "sha256"),
        ('{"tokens": {"t": {"role": "viewer", "hash": "sha256$0", "scopes": ["red"]}}}', "'red' is no permission"),
        ('{"tokens": {"t": {"role": "viewer", "hash": "sha256$0", "expires_at": "2030-01-01T00:00:00"}}}', "time zone"),
    ],
)
def test_a_file_that_cannot_be_meant_says_why(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "users.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says.replace("$", r"\$")):
        accounts.read(file)


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "users.json"
    accounts.write(file, Accounts())
    key = keep_key(tmp_path / "deep" / "web.key")
    assert keep_key(tmp_path / "deep" / "web.key") == key
    assert len(key) == 32
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE((tmp_path / "deep" / "web.key").stat().st_mode) == 0o600
    assert not accounts.too_open(file)
    file.chmod(0o644)
    assert accounts.too_open(file)


def test_roles_grow() -> None:
    viewer, operator, admin = (of_role(role) for role in ROLES)
    assert viewer < operator < admin == {permission.name for permission in PERMISSIONS}
    assert "payload" not in viewer
    assert User("viewer", KEPT, ("payload",)).grants() == viewer | {"payload"}
    role: Role = "operator"
    assert Token(role, "", ("manage",)).grants() == frozenset()


def test_passwords() -> None:
    assert password_fits(PASSWORD, KEPT)
    assert not password_fits(PASSWORD + " ", KEPT)
    assert not readable("scrypt$1048577$8$1$AA$AA")
    assert not readable("plain")
    assert hash_password(PASSWORD) != KEPT


def test_one_account_keeps_ten_pages_current(site: Site) -> None:
    gate = Gate(site.door, Limiter(site.clock))
    anna, otto = Visitor("anna", frozenset(), "session"), Visitor("otto", frozenset(), "session")

    async def endless() -> AsyncIterator[str]:
        while True:
            yield "x"

    async def many() -> None:
        streams = [gate.limited(anna, endless()) for _ in range(STREAMS_EACH)]
        assert [await anext(each) for each in streams] == ["x"] * STREAMS_EACH
        with pytest.raises(HTTPException, match="open pages of one account"):
            gate.limited(anna, endless())
        assert await anext(gate.limited(otto, endless())) == "x"
        await streams[0].aclose()  # type: ignore[attr-defined]
        assert await anext(gate.limited(anna, endless())) == "x"

    asyncio.run(many())


def test_the_limiter_forgets_old_windows_and_old_keys() -> None:
    clock = ManualClock(0.0)
    limiter, twice = Limiter(clock), Allowance(2, 10.0)
    assert [limiter.take("w", "a", twice) for _ in range(3)] == [0.0, 0.0, 10.0]
    clock.advance(4)
    assert limiter.wait_s("w", "a", twice) == pytest.approx(6.0)
    clock.advance(6)
    assert limiter.take("w", "a", twice) == 0.0
    for number in range(MAX_KEYS + 1):
        limiter.count("w", str(number), twice)
    assert limiter.take("w", "a", twice) == 0.0
    assert timedelta(seconds=10).total_seconds() == twice.window_s


@pytest.mark.parametrize("stream", ["/live/overview", "/api/v1/events"])
def test_a_stranger_gets_no_stream(site: Site, stream: str) -> None:
    assert site.ask(stream).status_code == 401
    assert site.ask(stream, headers=basic("viewer", "wrong")).status_code == 401
    assert site.ask("/live/no-such-page", headers=basic("viewer")).status_code == 404


def test_guessing_by_header_is_stopped_too(site: Site) -> None:
    statuses = [site.ask("/api/v1/me", headers=basic("admin", f"guess {n}")).status_code for n in range(8)]
    assert statuses[:5] == [401] * 5
    assert set(statuses[5:]) == {429}
    assert site.ask("/api/v1/me", headers=basic("admin")).status_code == 429
    guesses = [site.ask("/api/v1/me", headers={"authorization": f"Bearer opsq_{n}"}).status_code for n in range(30)]
    assert guesses[-1] == 429
