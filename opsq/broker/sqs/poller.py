"""One thread per queue that asks SQS for messages and waits there for some: SQS tells of nothing by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

AT_ONCE = 10
"""Most messages in one request, of any kind."""


class Poller:
    """Reads one queue while there is room. Thread: one of its own, for the calls too.

    room: how many messages it may ask for now. arrived: gets (poller, messages), all of one request, and
    says whether it took them. failed: gets what ended the thread. wait_s: longest wait of SQS for a
    message. lease_s: how long what comes stays out of sight of others.
    """

    def __init__(
        self,
        client: Any,
        queue: str,
        url: str,
        room: Callable[[Poller], int],
        arrived: Callable[[Poller, list[dict[str, Any]]], bool],
        failed: Callable[[BaseException], None],
        *,
        wait_s: int,
        lease_s: int,
    ) -> None:
        self.client = client
        self.queue = queue
        self.url = url
        self._room = room
        self._arrived = arrived
        self._failed = failed
        self._wait_s = wait_s
        self._lease_s = lease_s
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"opsq-sqs-{queue}", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def more(self) -> None:
        """Say that there is room again."""
        self._wanted.set()

    def stop(self) -> None:
        """Ask no more. What a request under way still brings is given back at once."""
        self._stopped.set()
        self._wanted.set()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                room = self._room(self)
                if room <= 0:
                    self._wanted.wait()
                    self._wanted.clear()
                    continue
                messages = self._receive(min(room, AT_ONCE))
                if messages and (self._stopped.is_set() or not self._arrived(self, messages)):
                    self.show([each["ReceiptHandle"] for each in messages])
        except Exception as exc:  # noqa: BLE001 boundary: whatever ends the thread is raised by the owner
            if not self._stopped.is_set():
                self._failed(exc)

    def _receive(self, count: int) -> list[dict[str, Any]]:
        answer = self.client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=count,
            WaitTimeSeconds=self._wait_s,
            VisibilityTimeout=self._lease_s,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        found: list[dict[str, Any]] = answer.get("Messages") or []
        return found

    def delete(self, handles: Sequence[str]) -> int:
        """Delete messages; return how many SQS did not know any more."""
        return self._in_tens(self.client.delete_message_batch, handles, {})

    def show(self, handles: Sequence[str]) -> int:
        """Let others see messages at once; see ``delete``."""
        return self._in_tens(self.client.change_message_visibility_batch, handles, {"VisibilityTimeout": 0})

    def hide(self, handles: Sequence[str]) -> int:
        """Keep messages out of sight for another lease; see ``delete``."""
        return self._in_tens(self.client.change_message_visibility_batch, handles, {"VisibilityTimeout": self._lease_s})

    def _in_tens(self, call: Callable[..., Any], handles: Sequence[str], more: dict[str, Any]) -> int:
        failed = 0
        for at in range(0, len(handles), AT_ONCE):
            part = handles[at : at + AT_ONCE]
            entries = [{"Id": str(n), "ReceiptHandle": handle, **more} for n, handle in enumerate(part)]
            failed += len(call(QueueUrl=self.url, Entries=entries).get("Failed") or ())
        return failed
