"""``DjangoTask``: what tasks of a Django project are made of. Source: ``celery.contrib.django.task``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeVar

from django.db import transaction

from opsq.core.task import Task

P = ParamSpec("P")
R = TypeVar("R")


class DjangoTask(Task[P, R]):
    """A task that can be called when the database transaction at hand has been committed.

    Called at once it could run before there is anything to see, or for something that was rolled back.
    Thread: any; the transaction is that of the calling thread.
    """

    abstract = True

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call ``delay`` with these arguments after the commit; at once outside a transaction, never after a rollback.

        Raises: BadArguments here and now; BrokerUnavailable out of the commit, whose work is done by then.
        """
        self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        using: str | None = None,
        **options: Any,
    ) -> None:
        """Call ``apply_async`` after the commit. using: alias of the database, the default one by default.

        Raises: as ``delay_on_commit``.
        """
        if self.typing if self.typing is not None else self.app.strict_typing:
            self._check_arguments(args, kwargs)
        transaction.on_commit(partial(self.apply_async, args, kwargs, **options), using=using)
