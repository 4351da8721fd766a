"""CloudEvents 1.0 attributes of one message, and how each transport carries them.

Binary mode on both: the attributes are headers, the body is the event's JSON. RabbitMQ uses the
``cloudEvents:`` prefix of the AMQP binding, Kafka the ``ce_`` prefix of the Kafka binding. The
W3C ``traceparent`` travels beside them under its own name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from common.events.base import rfc3339

CONTENT_TYPE = "application/json"
SPEC_VERSION = "1.0"
AMQP_PREFIX = "cloudEvents:"
KAFKA_PREFIX = "ce_"
ATTEMPT_HEADER = "stagedoor-attempt"
TRACEPARENT_HEADER = "traceparent"


class MalformedEnvelope(ValueError):  # noqa: N818 - names what was met
    """A required CloudEvents attribute is missing or unreadable; trying again cannot help."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known of an event besides its data."""

    id: str
    """CloudEvents ``id``: consumers drop a second message of one id."""
    type: str
    source: str
    """The producing service, e.g. ``payment``."""
    subject: str
    """Id of the aggregate the event speaks of."""
    time: datetime
    """When it happened; aware."""
    traceparent: str | None = None
    attempt: int = 1
    """Which try this delivery is: 1 unless the message failed by its own fault before."""

    def next_attempt(self) -> "Envelope":
        """The same event, tried once more."""
        return replace(self, attempt=self.attempt + 1)

    def attributes(self) -> dict[str, str]:
        """CloudEvents attributes without a prefix."""
        return {
            "specversion": SPEC_VERSION,
            "id": self.id,
            "type": self.type,
            "source": self.source,
            "subject": self.subject,
            "time": rfc3339(self.time),
        }

    def to_amqp(self) -> dict[str, str | int]:
        """Headers of a RabbitMQ message."""
        headers: dict[str, str | int] = {
            f"{AMQP_PREFIX}{name}": value for name, value in self.attributes().items()
        }
        if self.traceparent:
            headers[TRACEPARENT_HEADER] = self.traceparent
        if self.attempt > 1:
            headers[ATTEMPT_HEADER] = self.attempt
        return headers

    def to_kafka(self) -> dict[str, str]:
        """Headers of a Kafka record."""
        headers = {f"{KAFKA_PREFIX}{name}": value for name, value in self.attributes().items()}
        headers["content-type"] = CONTENT_TYPE
        if self.traceparent:
            headers[TRACEPARENT_HEADER] = self.traceparent
        return headers

    @classmethod
    def from_amqp(cls, headers: Mapping[str, Any]) -> "Envelope":
        """Read RabbitMQ headers.

        Raises:
            MalformedEnvelope: an attribute is missing or unreadable.
        """
        return _read(headers, AMQP_PREFIX, attempt_of(headers))

    @classmethod
    def from_kafka(cls, headers: Iterable[tuple[str, bytes]]) -> "Envelope":
        """Read the headers of a Kafka record, as the client hands them over.

        Raises:
            MalformedEnvelope: an attribute is missing or unreadable.
        """
        try:
            texts = {name: value.decode() for name, value in headers}
        except UnicodeDecodeError as error:
            raise MalformedEnvelope("a header is not UTF-8") from error
        return _read(texts, KAFKA_PREFIX, 1)


def attempt_of(headers: Mapping[str, Any]) -> int:
    """Which try a delivery with these headers is; nonsense counts as the first."""
    attempt = headers.get(ATTEMPT_HEADER)
    return attempt if isinstance(attempt, int) and attempt > 0 else 1


def _read(headers: Mapping[str, Any], prefix: str, attempt: int) -> Envelope:
    def attribute(name: str) -> str:
        value = headers.get(prefix + name)
        if not isinstance(value, str) or not value:
            raise MalformedEnvelope(f"CloudEvents attribute {name} is missing")
        return value

    if attribute("specversion") != SPEC_VERSION:
        raise MalformedEnvelope("unknown CloudEvents version")
    try:
        time = datetime.fromisoformat(attribute("time"))
    except ValueError as error:
        raise MalformedEnvelope("CloudEvents time is unreadable") from error
    if time.tzinfo is None:
        raise MalformedEnvelope("CloudEvents time names no zone")
    traceparent = headers.get(TRACEPARENT_HEADER)
    return Envelope(
        id=attribute("id"),
        type=attribute("type"),
        source=attribute("source"),
        subject=attribute("subject"),
        time=time.astimezone(UTC),
        traceparent=traceparent if isinstance(traceparent, str) else None,
        attempt=attempt,
    )
