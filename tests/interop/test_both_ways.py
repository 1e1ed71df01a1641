"""Every case of ``cases.py``: Celery publishes and opsq runs it, and the reverse.

The names of the cases say what is checked. Celery to Celery runs too in the full suite (``make
interop``): a case that fails there is wrong itself.
"""

from __future__ import annotations

import pytest

from tests.interop.cases import CASES
from tests.interop.conftest import Pair


@pytest.mark.parametrize("case", CASES)
def test_case(pair: Pair, case: str) -> None:
    if "limits" in CASES[case] and pair.direction.pool != "prefork":
        pytest.skip("time limits need processes")
    pair.client.run(case)
    assert pair.worker.process.poll() is None, pair.worker.text()
