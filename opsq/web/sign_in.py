"""Signing in and out. The page is a plain form: it works without script, and a password manager knows it."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from opsq.web.access.door import TooManyTries
from opsq.web.access.gate import COOKIE, SECURE_COOKIE, address_of, local_target, too_many
from opsq.web.act_records import DONE, REFUSED
from opsq.web.acting import write_down
from opsq.web.audit import Entry
from opsq.web.bodies import read_form
from opsq.web.deps import Deps
from opsq.web.render import Renderer
from opsq.web.view_common import Ask
from opsq.web.view_shell import shell


@dataclass(frozen=True, slots=True)
class SignInView:
    """The form. wrong: what to say of the last try, empty at the first. next: where to go afterwards."""

    action: str
    next: str
    name: str
    wrong: str


class SignIn:
    """Answers for signing in and out. Thread: the event loop's."""

    def __init__(self, deps: Deps, renderer: Renderer) -> None:
        self._deps = deps
        self._renderer = renderer

    async def page(self, request: Request) -> Response:
        """Ask for a name and a password; where nobody needs to sign in, or has, lead on."""
        target = local_target(request.query_params.get("next", "/"))
        if request.state.visitor.name:
            return RedirectResponse(self._deps.places.to(target), status_code=303)
        return self._form(request, target, "", "")

    async def enter(self, request: Request) -> Response:
        """Check a name and a password; give a cookie and lead on, or ask again. Raises HTTPException 429."""
        fields = {name: values[-1] for name, values in (await read_form(request)).items()}
        name, target = fields.get("name", "")[:200], local_target(fields.get("next", "/"))
        password = fields.get("password", "")[:1000]
        try:
            cookie = await run_in_threadpool(self._deps.door.sign_in, name, password, address_of(request))
        except TooManyTries as error:
            raise too_many(error) from error
        await run_in_threadpool(self._note, request, name, cookie is not None)
        if cookie is None:
            return self._form(request, target, name, "That name and password do not belong together.", status=401)
        answer = RedirectResponse(self._deps.places.to(target), status_code=303)
        secure = request.url.scheme == "https"
        answer.set_cookie(
            SECURE_COOKIE if secure else COOKIE, cookie, max_age=int(self._deps.door.session_s), path="/",
            secure=secure, httponly=True, samesite="strict",
        )  # fmt: skip
        return answer

    def _note(self, request: Request, name: str, good: bool) -> None:
        """Write it down. A name that nobody has is not kept: people type their password there."""
        known = name if good or name in self._deps.door.accounts().users else ""
        message = "" if good else "a wrong password" if known else "a name that nobody has"
        entry = Entry(
            at=0.0, who=known, how="password", source=address_of(request), act="sign-in", target="",
            outcome=DONE if good else REFUSED, message=message,
        )  # fmt: skip
        write_down(self._deps, entry)

    async def leave(self, request: Request) -> Response:
        """Take the cookie away."""
        answer = RedirectResponse(self._deps.places.to("/sign-in"), status_code=303)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        answer.delete_cookie(SECURE_COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        return answer

    def _form(self, request: Request, target: str, name: str, wrong: str, status: int = 200) -> Response:
        view = SignInView(self._deps.places.to("/sign-in"), target, name, wrong)
        now = self._deps.clock.now()
        ask = Ask("sign-in", request.state.visitor)
        surroundings = shell("Sign in", None, ask, self._deps.here, self._deps.places, live="", now=now)
        html = self._renderer.write("pages/sign_in.html", {"shell": surroundings, "view": view, "now": now})
        return HTMLResponse(html, status_code=status)
