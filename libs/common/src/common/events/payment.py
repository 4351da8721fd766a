"""Events of payment-service, on the broker and on the Kafka stream."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from common.events.base import Event, Id, Money, Timestamp, Version

EXCHANGE = "payment.events"
KAFKA_TOPIC = "stagedoor.payments.v1"
"""Payment stream for the data platform; the message key is the concert id."""


class _PaymentFact(Event):
    exchange: ClassVar[str] = EXCHANGE

    payment_id: Id
    version: Version
    reservation_id: Id
    user_id: str
    concert_id: Id
    performance_id: Id
    amount: Money
    occurred_at: Timestamp

    @property
    def subject(self) -> str:
        """The payment."""
        return self.payment_id


class PaymentAuthorized(_PaymentFact):
    """The wallet was debited; the reservation must now be confirmed or rejected."""

    type: ClassVar[str] = "payment.authorized.v1"


class PaymentSucceeded(_PaymentFact):
    """The reservation is confirmed and the money is ours."""

    type: ClassVar[str] = "payment.succeeded.v1"
    # Reservations know it already and the data platform hears it from Kafka.
    must_be_heard: ClassVar[bool] = False

    seat_ids: tuple[Id, ...]


class PaymentRefunded(_PaymentFact):
    """The money is back in the wallet."""

    type: ClassVar[str] = "payment.refunded.v1"

    seat_ids: tuple[Id, ...]
    previous_state: Literal["authorized", "succeeded"]
    reason: str


class PaymentRecord(BaseModel):
    """Value of one message on the Kafka topic; ``type`` is the fact's event type."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    payment_id: Id
    reservation_id: Id
    concert_id: Id
    performance_id: Id
    seat_ids: tuple[Id, ...]
    amount: Money
    occurred_at: Timestamp
    type: Literal["payment.succeeded.v1", "payment.refunded.v1"]
