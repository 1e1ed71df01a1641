"""The tasks by which workers of the Celery protocol know workflows.

Source: celery-protocol A.7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from opsq.core.chord_store import counts, is_counted, values_of
from opsq.core.over_items import chunks
from opsq.core.signature import maybe_signature
from opsq.core.workflows import chord, group
from opsq.errors import ChordError
from opsq.wire.result import parse_ref

if TYPE_CHECKING:
    from opsq.core.app import Opsq


_RARELY_S: Final = 10.0


def add_canvas_tasks(app: Opsq) -> None:
    """Register them."""

    def chord_unlock(
        self: Any,
        /,
        group_id: str,
        callback: Any,
        interval: float | None = None,
        max_retries: int | None = None,
        result: Iterable[Any] = (),
        **_of_celery: Any,
    ) -> None:
        """Publish a chord's body once all results of its header are stored; look again later otherwise.

        _of_celery: what Celery's own unlocking task keeps for its retries, such as ``_chord_unlock_exchange_type``.
        """
        pause_s = interval or app.settings.result_chord_retry_interval
        members = [parse_ref(each) for each in result]
        if is_counted(callback) and counts(app.backend):
            # Only the net for members that Celery's workers run: a counted chord needs nobody who looks.
            if not app.sender.chords.assist(group_id, callback, members, app.backend):
                raise self.retry(countdown=min(pause_s * 2**self.request.retries, _RARELY_S), max_retries=max_retries)
            return
        try:
            values = values_of(app.backend, members)
        except ChordError as exc:
            app.sender.chords.fail_body(callback, exc, None)
            return
        if values is None:
            raise self.retry(countdown=pause_s, max_retries=max_retries)
        maybe_signature(callback, app).apply_async((values,))

    def apply_group(tasks: Any, result: Any = None, group_id: Any = None, partial_args: Any = (), **_more: Any) -> Any:
        """Publish a group's members."""
        return group(tasks, app=app).apply_async(partial_args, task_id=group_id).as_tuple()

    def apply_chord(header: Any, body: Any, partial_args: Any = (), **_more: Any) -> Any:
        """Publish a chord."""
        return chord(header, body, app=app).apply_async(partial_args).as_tuple()

    def apply_chunks(task: Any, it: Iterable[Any], n: int) -> Any:
        """Publish the calls of a list in parts."""
        return chunks(maybe_signature(task, app), it, n, app=app).apply_async().as_tuple()

    def apply_chain(*_args: Any, **_kwargs: Any) -> Any:
        """Refuse: a chain is several messages."""
        raise NotImplementedError("a chain is not a task; publish its first task")

    unlock = app.task(bind=True, name="celery.chord_unlock", max_retries=None, ignore_result=True)
    unlock(chord_unlock)
    app.task(apply_group, name="celery.group", typing=False)
    app.task(apply_chord, name="celery.chord", typing=False)
    app.task(apply_chunks, name="celery.chunks")
    app.task(apply_chain, name="celery.chain", typing=False)
