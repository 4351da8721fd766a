"""Names and declarations of everything on the broker. Runs unchanged on RabbitMQ 3.10 to 4.3.

Every name of a service starts with ``<service>.``, because its account may configure and write
nothing else. A message travels:

    producer ─▶ <producer>.events ─▶ <service>.<event type> ─▶ handler
                                          ▲                       │ its own error
                                          │                       ▼
                      <service>.redeliver ◀── (TTL) ── <service>.retry
                                                                  │ after the last try
                                                                  ▼
                                                        <service>.parked

The retry copy keeps the consumer queue's name as its routing key, so that it comes back to this
queue alone and not to every queue the event was meant for.
"""

from dataclasses import dataclass
from typing import Any, Literal

RETRY_SECONDS = 5
"""How long a failed message rests before it comes back."""
MAX_ATTEMPTS = 5
"""Tries a message gets before it is parked."""
DELIVERY_LIMIT = 1_000
"""Back-stop against a message that kills its consumer; a killed one's whole prefetch counts."""
PARKED_DELIVERY_LIMIT = 1_000_000
"""Looking at parked messages redelivers them; RabbitMQ 4 would drop them after 20 looks."""
LANES = 16
LANES_EXCHANGE = "reservation.lanes"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    kind: Literal["topic", "direct", "fanout"]


@dataclass(frozen=True, slots=True)
class Binding:
    """What a queue hears from an exchange."""

    exchange: Exchange
    routing_key: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable quorum queue with its bindings."""

    name: str
    arguments: tuple[tuple[str, Any], ...]
    bindings: tuple[Binding, ...] = ()


def events_exchange(service: str) -> Exchange:
    """Where a service's facts leave."""
    return Exchange(f"{service}.events", "topic")


def lanes_exchange() -> Exchange:
    """Where reservation requests are spread over the lanes."""
    return Exchange(LANES_EXCHANGE, "direct")


def lane_key(lane: int) -> str:
    """Routing key of a request lane: ``lane.00`` to ``lane.15``."""
    return f"lane.{lane:02d}"


def lane_queue(lane: int) -> str:
    """Queue of a request lane: ``reservation.lane.00`` to ``reservation.lane.15``."""
    return f"reservation.{lane_key(lane)}"


def retry_exchange(service: str) -> Exchange:
    """Where copies of failed messages rest."""
    return Exchange(f"{service}.retry", "fanout")


def redeliver_exchange(service: str) -> Exchange:
    """Brings a message back to the one queue its routing key names."""
    return Exchange(f"{service}.redeliver", "direct")


def parked_exchange(service: str) -> Exchange:
    """Where messages are given up to."""
    return Exchange(f"{service}.parked", "fanout")


def exchange_named(name: str) -> Exchange:
    """Declaration of an exchange by its name alone, for publishers and for bindings.

    Raises:
        LookupError: no such exchange is part of the design.
    """
    if name == LANES_EXCHANGE:
        return lanes_exchange()
    service, _, role = name.partition(".")
    makers = {
        "events": events_exchange,
        "retry": retry_exchange,
        "redeliver": redeliver_exchange,
        "parked": parked_exchange,
    }
    if role not in makers:
        raise LookupError(f"no exchange {name!r} is declared anywhere")
    return makers[role](service)


def consumer_queue(
    service: str, name: str, bindings: tuple[Binding, ...], *, ordered: bool
) -> Queue:
    """A queue that a handler reads; also bound to the redelivery exchange under its own name."""
    arguments: dict[str, Any] = {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": parked_exchange(service).name,
        # The default strategy loses dead-lettered messages when the broker dies meanwhile;
        # at-least-once demands that a full queue refuses instead of dropping its head.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    if ordered:
        arguments["x-single-active-consumer"] = True
    home = Binding(redeliver_exchange(service), name)
    return Queue(name, tuple(arguments.items()), (*bindings, home))


def retry_queue(service: str, retry_seconds: float = RETRY_SECONDS) -> Queue:
    """Where failed messages rest; their routing key is kept, so they return where they failed."""
    arguments = (
        ("x-queue-type", "quorum"),
        ("x-delivery-limit", DELIVERY_LIMIT),
        ("x-message-ttl", int(retry_seconds * 1000)),
        ("x-dead-letter-exchange", redeliver_exchange(service).name),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
    )
    return Queue(f"{service}.retry", arguments, (Binding(retry_exchange(service), ""),))


def parked_queue(service: str) -> Queue:
    """Where given-up messages wait for a person."""
    arguments = (
        ("x-queue-type", "quorum"),
        ("x-delivery-limit", PARKED_DELIVERY_LIMIT),
        ("x-overflow", "reject-publish"),
    )
    return Queue(f"{service}.parked", arguments, (Binding(parked_exchange(service), ""),))


def members_queue(service: str) -> Queue:
    """Never holds a message: its consumers are counted, so that replicas know how many they are."""
    arguments = (("x-queue-type", "quorum"), ("x-delivery-limit", DELIVERY_LIMIT))
    return Queue(f"{service}.members", arguments)


def own_exchanges(service: str) -> tuple[Exchange, ...]:
    """What a service declares at every start, whether or not it consumes."""
    lanes = (lanes_exchange(),) if service == "reservation" else ()
    return (
        events_exchange(service),
        retry_exchange(service),
        redeliver_exchange(service),
        parked_exchange(service),
        *lanes,
    )
