"""What can go wrong with a broker, and which of it may pass by itself.

Every message names the broker by a URL without its password, says what failed and what to do.
"""

from __future__ import annotations

from opsq.errors import BrokerUnavailable, ExitCode


class BrokerBusy(BrokerUnavailable):
    """The broker could not do it just now (file locked, disk full); the connection is still good."""


class BrokerStalled(BrokerUnavailable):
    """Messages wait and there is room for them, but none arrives: the connection must be rebuilt."""


class LeaseLost(BrokerUnavailable):
    """This process was silent for longer than its lease, so its deliveries went back to the queue."""


class BrokerUnusable(BrokerUnavailable):
    """The broker will not work until somebody changes something; trying again is of no use."""

    exit_code = ExitCode.CANNOT_CREATE
