"""Events of queue-service."""

from enum import StrEnum
from typing import ClassVar

from common.events.base import Event, Id, Timestamp, Version

EXCHANGE = "queue.events"


class AdmissionEndCause(StrEnum):
    """Why somebody is no longer inside."""

    PURCHASED = "purchased"
    LEFT = "left"
    EXPIRED = "expired"
    UNCOLLECTED = "uncollected"
    CLOSED = "closed"


class AdmissionEnded(Event):
    """A pass is over: whoever holds it is outside again, and its slot is free."""

    type: ClassVar[str] = "admission.ended.v1"
    exchange: ClassVar[str] = EXCHANGE

    pass_id: Id
    concert_id: Id
    user_id: str
    version: Version
    cause: AdmissionEndCause
    ended_at: Timestamp

    @property
    def subject(self) -> str:
        """The pass."""
        return self.pass_id
