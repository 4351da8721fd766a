"""What every event contract shares: the frozen base, shared value objects, the registry.

An event class is the contract between its producer and every consumer: the producer's test must
emit the golden file of its type, each consumer's test must accept it. Unknown fields are ignored
on reading, so a field may be added; anything else is a new ``.v2`` class beside the old one.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer


def rfc3339(moment: datetime) -> str:
    """The one way a moment is written: UTC, microseconds, ``Z``."""
    text = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


Timestamp = Annotated[AwareDatetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]
"""RFC 3339 in UTC with microseconds; the same text in HTTP bodies and events."""

Id = Annotated[str, Field(min_length=36, max_length=36)]
"""A UUIDv7 as text."""

Version = Annotated[int, Field(ge=1)]
"""Version of the aggregate the event speaks of; a consumer ignores what is not higher."""


class Money(BaseModel):
    """An amount in minor units of one currency. Never a float."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: Annotated[int, Field(strict=True)]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "KRW"


class Event(BaseModel):
    """A fact (past tense) or a request (imperative), immutable once made."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    """CloudEvents ``type`` and the routing key on the broker, e.g. ``reservation.held.v1``."""
    exchange: ClassVar[str]
    """The producer's topic exchange, e.g. ``reservation.events``."""
    must_be_heard: ClassVar[bool] = True
    """Whether publishing fails while no queue takes it. False for a fact no service listens to:
    it would wait in the outbox for ever and slow down the facts behind it."""

    @property
    def subject(self) -> str:
        """CloudEvents ``subject``: the id of the aggregate the event speaks of."""
        raise LookupError(f"{self.__class__.__name__} names no subject")


class SaleState(StrEnum):
    """Whether the seats of a performance may be requested now."""

    SCHEDULED = "scheduled"
    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class SeatState(StrEnum):
    """State of one seat in the inventory."""

    AVAILABLE = "available"
    HELD = "held"
    SOLD = "sold"
