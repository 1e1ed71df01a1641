"""What SQS and its client library say, in words that tell what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from opsq.broker.faults import BrokerBusy, BrokerUnusable
from opsq.errors import BrokerUnavailable

_LOGIN = frozenset({
    "AccessDenied", "AccessDeniedException", "AuthFailure", "ExpiredToken", "ExpiredTokenException",
    "InvalidClientTokenId", "MissingAuthenticationToken", "SignatureDoesNotMatch", "UnrecognizedClientException",
})  # fmt: skip
_BUSY = frozenset({"Throttling", "ThrottlingException", "RequestThrottled", "OverLimit"})


@contextmanager
def told(name: str) -> Iterator[None]:
    """Turn the library's errors inside the block into ours. name: the broker's URL without its password."""
    try:
        yield
    except ClientError as exc:
        raise _of_reply(exc, name) from exc
    except (NoCredentialsError, NoRegionError) as exc:
        raise BrokerUnusable(
            f"broker {name}: {exc}; set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION, "
            "or the transport option region"
        ) from exc
    except BotoCoreError as exc:
        raise BrokerUnavailable(f"broker {name}: {exc}; check the network and the endpoint") from exc


def _of_reply(exc: ClientError, name: str) -> BrokerUnavailable:
    error = exc.response.get("Error", {})
    code = str(error.get("Code", "")).rpartition(".")[2]
    said = f"{code}: {str(error.get('Message', ''))[:300]}"
    if code in _LOGIN:
        return BrokerUnusable(
            f"broker {name} refused it: {said}; the account needs sqs: ListQueues, CreateQueue, GetQueueUrl, "
            "GetQueueAttributes, SendMessage, ReceiveMessage, ChangeMessageVisibility and DeleteMessage"
        )
    if code in _BUSY:
        return BrokerBusy(f"broker {name}: {said}; it passes by itself, or ask for a higher limit")
    return BrokerUnavailable(f"broker {name}: {said}; see the queue in the AWS console")
