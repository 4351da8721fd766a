"""What becomes of a message that fails by its own fault: another round, or the parking queue."""

import structlog
from faststream.rabbit.message import RabbitMessage

from common.broker import metrics
from common.broker.publishing import Publisher
from common.broker.topology import MAX_ATTEMPTS, parked_exchange, retry_exchange
from common.clock import Clock
from common.envelope import AMQP_PREFIX, ATTEMPT_HEADER, attempt_of
from common.errors import MessageRejected
from common.ids import new_id

QUEUE_HEADER = "stagedoor-queue"
REASON_HEADER = "stagedoor-reason"
DETAIL_HEADER = "stagedoor-detail"
PARKED_AT_HEADER = "stagedoor-parked-at"
DETAIL_LENGTH = 500
DEADLINE_SECONDS = 2.0

_log = structlog.get_logger("broker")


class Failing:
    """Sends failed messages on, confirmed. The original is acknowledged only afterwards.

    So a death in between leaves two copies, never none; the inbox absorbs the second.
    """

    def __init__(self, service: str, publisher: Publisher, clock: Clock) -> None:
        self._service = service
        self._publisher = publisher
        self._clock = clock

    async def retry_or_park(self, message: RabbitMessage, queue: str, error: Exception) -> None:
        """One more round with its attempt counted, or the parking queue after the last.

        Raises:
            DependencyUnavailable: the copy was not confirmed; the original must stay.
        """
        attempt = attempt_of(message.headers)
        if isinstance(error, MessageRejected) or attempt >= MAX_ATTEMPTS:
            await self.park(message, queue, error)
            return
        headers = {**_portable(message), ATTEMPT_HEADER: attempt + 1}
        await self._copy(message, headers, retry_exchange(self._service).name, queue)
        metrics.RETRIED.labels(queue).inc()
        _log.warning(
            "message-retried",
            queue=queue,
            message_id=event_id(message),
            attempt=attempt,
            reason=type(error).__name__,
        )

    async def park(self, message: RabbitMessage, queue: str, error: Exception) -> None:
        """Give the message up to the parking queue, with the reason.

        Raises:
            DependencyUnavailable: the copy was not confirmed; the original must stay.
        """
        reason = type(error).__name__
        headers = {
            **_portable(message),
            ATTEMPT_HEADER: attempt_of(message.headers),
            QUEUE_HEADER: queue,
            REASON_HEADER: reason,
            # May quote the message, so it stays with the message and out of the log.
            DETAIL_HEADER: str(error)[:DETAIL_LENGTH],
            PARKED_AT_HEADER: self._clock.now().isoformat(),
        }
        await self._copy(message, headers, parked_exchange(self._service).name, queue)
        metrics.PARKED.labels(queue, reason).inc()
        _log.error(
            "message-parked",
            queue=queue,
            type=message.raw_message.type,
            message_id=event_id(message),
            attempt=attempt_of(message.headers),
            reason=reason,
        )

    async def _copy(
        self, message: RabbitMessage, headers: dict[str, str | int], exchange: str, key: str
    ) -> None:
        await self._publisher.send(
            message.body,
            headers,
            exchange=exchange,
            routing_key=key,
            message_id=new_id(),
            message_type=message.raw_message.type or "",
            time=self._clock.now(),
            deadline_seconds=DEADLINE_SECONDS,
        )


def event_id(message: RabbitMessage) -> str:
    """The CloudEvents id as far as it can be read."""
    return str(message.headers.get(f"{AMQP_PREFIX}id") or message.message_id)


def _portable(message: RabbitMessage) -> dict[str, str | int]:
    """Headers worth copying: the broker's own ``x-`` bookkeeping is not ours to forge."""
    return {
        name: value
        for name, value in message.headers.items()
        if isinstance(value, str | int) and not name.startswith("x-")
    }
