"""Where the children of a worker find its app again."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from opsq import Opsq
from opsq.core.worker.child import address_of
from opsq.errors import ConfigError


def test_an_app_of_shared_tasks_is_found_in_whichever_module_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Opsq("no_module_of_this_name", set_as_current=False)
    with pytest.raises(ConfigError, match="no module holds it"):
        address_of(app, None)
    holder = ModuleType("project_of_shared_tasks")
    holder.__dict__["jobs"] = app
    monkeypatch.setitem(sys.modules, holder.__name__, holder)
    assert address_of(app, None) == "project_of_shared_tasks:jobs"
