"""Running an app's processes from code: ``app.worker_main()``, ``app.Beat()``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opsq import plugins


class Processes:
    """What an app can start in this process. The parts are imported by name, so that ``import opsq`` stays light."""

    def worker_main(self, argv: Sequence[str] | None = None) -> int:
        """Run ``opsq worker`` for this app, with these arguments, until it is stopped."""
        address: Any = plugins.resolve("opsq.core.worker.child:address_of")
        main: Any = plugins.resolve("opsq.cli.main:main")
        words = [word for word in argv or () if word != "worker"]
        return int(main(["worker", "-A", address(self, None), *words]) or 0)

    def Beat(self, **options: Any) -> Any:
        """A beat of this app, not yet started; options of ``opsq.core.beat.service.Beat``."""
        make: Any = plugins.resolve("opsq.core.beat.service:Beat")
        return make(self, **options)
