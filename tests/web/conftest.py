"""The monitor's application over a night of real events, asked without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from starlette.applications import Starlette

from opsq.web.app import create_app
from tests.web.world import World, night

Get = Callable[..., httpx.Response]


@pytest.fixture(scope="session")
def world() -> World:
    """Ten minutes of the night; tests that change it make their own."""
    return night(minutes=20)


def client(world: World, prefix: str = "") -> Get:
    """A function that asks the application of a world."""
    return client_of(create_app(world.deps(prefix)))


def client_of(app: Starlette) -> Get:
    """A function that asks an application."""

    def ask(path: str, method: str = "GET", **options: object) -> httpx.Response:
        async def one() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as session:
                return await session.request(method, path, **options)  # type: ignore[arg-type]

        return asyncio.run(one())

    return ask


@pytest.fixture(scope="session")
def get(world: World) -> Get:
    """Ask the application for a path."""
    return client(world)
