"""Time limits of coroutines: what the coroutine sees, and what its caller gets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from opsq.core.pools import limits
from opsq.core.pools.limits import limited
from opsq.errors import SoftTimeLimitExceeded, TimeLimitExceeded


async def forever() -> None:
    await asyncio.Event().wait()


def test_no_limit_costs_nothing() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(limited(work(), None, None)) == 7
    assert asyncio.run(limited(work(), 5.0, 5.0)) == 7


def test_the_soft_limit_is_raised_where_it_waits() -> None:
    seen: list[Any] = []

    async def work() -> str:
        try:
            await forever()
        except SoftTimeLimitExceeded as exc:
            seen.append(exc.args)
            await asyncio.sleep(0)  # cleaning up may wait
        return "cleaned up"

    assert asyncio.run(limited(work(), 0.01, None)) == "cleaned up"
    assert seen == [(0.01,)]


def test_the_soft_limit_reaches_through_gather() -> None:
    async def work() -> None:
        await asyncio.gather(forever(), forever())

    with pytest.raises(SoftTimeLimitExceeded):
        asyncio.run(limited(work(), 0.01, None))


def test_the_hard_limit_ends_it() -> None:
    async def work() -> None:
        try:
            await forever()
        except Exception:  # noqa: BLE001 a broad handler must not catch a cancellation
            raise AssertionError("not to be seen") from None

    with pytest.raises(TimeLimitExceeded):
        asyncio.run(limited(work(), None, 0.01))


def test_a_result_after_the_hard_limit_does_not_count() -> None:
    async def stubborn() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "too late"
        return ""

    with pytest.raises(TimeLimitExceeded):
        asyncio.run(limited(stubborn(), None, 0.01))


def test_it_insists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INSIST_S", 0.01)
    refusals = 0

    async def stubborn() -> None:
        nonlocal refusals
        while refusals < 3:
            try:
                await forever()
            except asyncio.CancelledError:
                refusals += 1

    with pytest.raises(TimeLimitExceeded):
        asyncio.run(limited(stubborn(), None, 0.01))
    assert refusals == 3


def test_somebody_elses_cancellation_passes_through() -> None:
    async def main() -> None:
        task = asyncio.create_task(limited(forever(), 5.0, 5.0))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_errors_pass_through() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(limited(work(), 5.0, 5.0))
