"""What type checkers know of tasks; checked by mypy, not run. Each ignore is an error that must be found."""

from __future__ import annotations

from typing import Any, assert_type

from opsq import Opsq, Task, shared_task
from opsq.result import AsyncResult

app = Opsq("types")


@app.task
def add(x: int, y: int = 0) -> int:
    return x + y


@app.task(queue="slow", max_retries=3)
def named(*, name: str) -> str:
    return name


@app.task(bind=True)
def bound(self: Task[..., Any], x: int) -> str:
    return str(self.request.retries + x)


@app.task
async def native(x: int) -> bytes:
    return bytes(x)


@shared_task
def shared(x: int) -> float:
    return x / 2


assert_type(add(1, 2), int)
assert_type(add.delay(1, y=2), AsyncResult[int])
assert_type(add.delay(1).get(timeout=1), int)
assert_type(add.apply_async((1, 2), queue="q"), AsyncResult[int])
assert_type(named.delay(name="x").get(), str)
assert_type(bound.delay(1).get(), str)
assert_type(native.delay(1).get(), bytes)
assert_type(shared.delay(1).get(), float)

add.delay("1")  # type: ignore[arg-type]
add.delay(1, 2, 3)  # type: ignore[call-arg]
add.delay(z=1)  # type: ignore[call-arg]
named.delay("x")  # type: ignore[call-arg]
bound.delay()  # type: ignore[call-arg]
bound.delay("x")  # type: ignore[arg-type]
native.delay("x")  # type: ignore[arg-type]
shared.delay("x")  # type: ignore[arg-type]
