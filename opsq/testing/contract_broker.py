"""What every broker must do: a suite for opsq's own transports and for those of plugins.

    class TestMyBroker(BrokerContract):
        features = Features(priorities=True)

        @pytest.fixture
        def url(self) -> str:
            return "mybroker://localhost"

What a broker cannot do by nature is said in ``features``; those tests are skipped with that reason.
"""

from __future__ import annotations

from opsq.testing.contract_broker_loop import ConsumerContract
from opsq.testing.contract_broker_messages import MessageContract


class BrokerContract(MessageContract, ConsumerContract):
    """The whole suite; see the module."""
