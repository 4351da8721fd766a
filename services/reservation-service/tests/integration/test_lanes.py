"""Lanes on the real broker: order, duplicates, poison, a forgotten Redis, a failing one."""

import asyncio
import json
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from common.broker import Delivery, lane_key
from common.envelope import Envelope
from common.errors import DependencyUnavailable
from common.events import BestAvailable, ReservationRequested
from common.ids import new_id
from common.outbox import Outbox
from common.redis import Redis
from reservation_service.service.lanes import LaneWorker, lane_of
from reservation_service.store.claims import Claims
from testkit import eventually


def request_for(show: Any, user_id: str, **changes: Any) -> ReservationRequested:
    fields = {
        "reservation_id": new_id(),
        "user_id": user_id,
        "concert_id": show.concert_id,
        "performance_id": show.performance_id,
        "pass_id": new_id(),
        "idempotency_key": new_id(),
        "body_hash": "0" * 64,
        "seat_ids": show.seat_ids[:1],
        "best_available": None,
        "reply_to": None,
        "requested_at": datetime.now(UTC),
    }
    return ReservationRequested.model_validate(fields | changes)


def delivery_of(request: ReservationRequested, message_id: str | None = None) -> Delivery:
    envelope = Envelope(
        message_id or new_id(), request.type, "reservation", request.subject, datetime.now(UTC)
    )
    return Delivery(request, envelope)


class Silent:
    """Nobody waits for these answers."""

    async def send(self, reply_to: str | None, key: str, payload: bytes) -> None:
        """Drop it."""


def worker(box, claims: Claims | None = None) -> LaneWorker:
    return LaneWorker(
        database=box.database,
        outbox=Outbox("reservation", lambda _: None),
        claims=claims or box.claims,
        answers=Silent(),  # type: ignore[arg-type] # all that is asked of it
    )


async def row_of(box, request: ReservationRequested) -> dict[str, Any] | None:
    rows = await box.rows(
        "SELECT state, rejected_code, lane_position, answer_status FROM reservations"
        " WHERE reservation_id = %s",
        request.reservation_id,
    )
    return rows[0] if rows else None


async def test_requests_are_decided_in_the_order_the_broker_accepted_them(box) -> None:
    show = await box.show(10, max_seats_per_fan=1)
    requests = [
        request_for(show, f"fan {n}", seat_ids=(random.choice(show.seat_ids),)) for n in range(150)
    ]
    for request in requests:
        await box.tell(request)
    await eventually(lambda: row_of(box, requests[-1]))
    rows = [await row_of(box, request) for request in requests]
    assert [row["lane_position"] for row in rows if row] == list(range(1, 151))
    # The first to ask for a seat has it, whoever came later does not.
    taken: set[str] = set()
    for request, row in zip(requests, rows, strict=True):
        assert row is not None
        (seat,) = request.seat_ids or ()
        assert row["state"] == ("rejected" if seat in taken else "held")
        taken.add(seat)


async def test_a_message_delivered_again_has_its_effect_once(box) -> None:
    show = await box.show()
    request, message_id = request_for(show, "ada"), new_id()
    for _ in range(3):
        await box.tell(request, message_id=message_id)
    await box.tell(request)  # the same request, published again under another message id
    marker = request_for(show, "bob", seat_ids=show.seat_ids[5:6])
    await box.tell(marker)
    await eventually(lambda: row_of(box, marker))
    row = await row_of(box, request)
    assert row is not None
    assert (row["state"], row["lane_position"]) == ("held", 1)
    told = [m for m in box.spy.messages if m.json().get("reservation_id") == request.reservation_id]
    assert len(told) <= 1
    assert await box.rows(
        "SELECT seats_left, inventory_version FROM performances WHERE performance_id = %s",
        show.performance_id,
    ) in ([{"seats_left": 18, "inventory_version": n}] for n in (1, 2))


async def test_a_batch_that_comes_twice_and_mixes_performances(box) -> None:
    shows = [await box.show(4) for _ in range(3)]
    batch = [
        delivery_of(
            request_for(
                show,
                f"fan {n}",
                seat_ids=None,
                best_available=BestAvailable(category="floor", quantity=2),
            )
        )
        for n in range(3)
        for show in shows
    ]
    await worker(box).decide(batch[:5])
    await worker(box).decide(batch)
    await worker(box).decide(batch)
    states = Counter([(await row_of(box, d.event) or {})["state"] for d in batch])
    assert states == {"held": 6, "rejected": 3}
    for show in shows:
        assert all(len(ids) == 1 for ids in (await box.seat_owners(show)).values())


async def test_twenty_workers_with_the_same_batch_decide_it_once(box) -> None:
    """A frozen worker and its successors: only one of them has any effect."""
    show = await box.show(20)
    batch = [
        delivery_of(request_for(show, f"fan {n}", seat_ids=(show.seat_ids[n % 10],)))
        for n in range(20)
    ]

    await asyncio.gather(*(box.insist(worker(box).decide, batch) for _ in range(20)))
    states = Counter([(await row_of(box, d.event) or {})["state"] for d in batch])
    assert states == {"held": 10, "rejected": 10}
    assert await box.rows(
        "SELECT seats_left, lane_position FROM performances WHERE performance_id = %s",
        show.performance_id,
    ) == [{"seats_left": 10, "lane_position": 20}]
    events = await box.rows(
        "SELECT COUNT(*) AS n FROM inbox WHERE message_id IN %s",
        [d.envelope.id for d in batch],
    )
    assert events == [{"n": 20}]


async def test_one_key_in_two_lanes_decides_one_request(box) -> None:
    shows = [await box.show(4) for _ in range(8)]
    key = new_id()
    requests = [request_for(show, "ada", idempotency_key=key) for show in shows]
    batches = [[delivery_of(request)] for request in requests]
    await asyncio.gather(*(box.insist(worker(box).decide, batch) for batch in batches))
    rows = [await row_of(box, request) for request in requests]
    assert len([row for row in rows if row]) == 1


async def test_a_poison_message_is_parked_and_delays_nobody(box) -> None:
    show = await box.show()
    before = request_for(show, "ada", seat_ids=show.seat_ids[:1])
    # It reads well and can never be stored: the key's column holds 128 characters.
    poison = request_for(show, "bob", seat_ids=show.seat_ids[1:2], idempotency_key="k" * 129)
    after = request_for(show, "cy", seat_ids=show.seat_ids[2:3])
    lane = lane_key(lane_of(show.performance_id))
    await box.tell(before)
    await box.tell(poison)
    await box.tell_raw(b"{]", ReservationRequested.type, ReservationRequested.exchange, lane)
    await box.tell(after)
    await eventually(lambda: row_of(box, after), 10)
    assert (await row_of(box, before) or {})["state"] == "held"
    assert (await row_of(box, after) or {})["state"] == "held"
    assert await row_of(box, poison) is None
    assert (
        list(await box.seat_owners(show)) == [show.seat_ids[0], show.seat_ids[2]]
        or len(await box.seat_owners(show)) == 2
    )


async def test_a_forgotten_redis_never_sells_a_seat_twice(box) -> None:
    show = await box.show(20, max_seats_per_fan=100)

    async def forget() -> None:
        for _ in range(15):
            for seat_id in show.seat_ids:
                await box.redis.delete(box.claims.mark(seat_id))
            await asyncio.sleep(0.02)

    async def buy(number: int) -> int:
        seats = random.sample(show.seat_ids, random.choice((1, 2, 3)))
        return int((await box.reserve(f"fan {number}", show, {"seat_ids": seats})).status_code)

    *codes, _ = await asyncio.gather(*(buy(n) for n in range(150)), forget())
    assert set(codes) == {201, 409}
    owners = await box.seat_owners(show)
    assert all(len(ids) == 1 for ids in owners.values())
    assert (
        len(owners)
        == 20
        - (
            await box.rows(
                "SELECT seats_left FROM performances WHERE performance_id = %s", show.performance_id
            )
        )[0]["seats_left"]
    )


class Away(Claims):
    """Claims whose Redis fails the first few times."""

    def __init__(self, redis: Redis, prefix: str, failures: int) -> None:
        super().__init__(redis, prefix)
        self.failures = failures

    async def settle(self, **arguments: Any) -> None:
        """Fail, then work."""
        if self.failures:
            self.failures -= 1
            raise DependencyUnavailable("redis")
        await super().settle(**arguments)


async def test_a_batch_whose_settling_failed_is_settled_when_it_comes_again(box) -> None:
    show = await box.show()
    request = request_for(show, "ada")
    batch = [delivery_of(request)]
    limping = worker(box, Away(box.redis, box.settings.redis_prefix, 1))
    with pytest.raises(DependencyUnavailable):
        await limping.decide(batch)
    mark = box.claims.mark(show.seat_ids[0])
    assert await box.redis.get(mark) is None
    await limping.decide(batch)
    assert await box.redis.get(mark) == f"{request.reservation_id}|held".encode()
    assert (await row_of(box, request) or {})["lane_position"] == 1


async def test_a_seat_found_sold_is_refused_in_redis_for_a_while(box) -> None:
    show = await box.show()
    held = await box.held("ada", show, 0)
    await box.endings().confirm(box.payment(held, "ada", show), new_id())
    mark = box.claims.mark(show.seat_ids[0])
    assert await box.redis.get(mark) == f"{held['reservation_id']}|sold".encode()
    await box.redis.delete(mark)
    refused = await box.reserve("bob", show, {"seat_ids": [show.seat_ids[0]]})
    assert refused.status_code == 409
    assert await box.redis.get(mark) == f"{held['reservation_id']}|sold".encode()
    assert 50_000 < await box.redis.pttl(mark) <= 60_000


async def test_the_answer_kept_is_the_answer_sent(box) -> None:
    show, key = await box.show(), new_id()
    sent = await box.reserve("ada", show, {"seat_ids": [show.seat_ids[0]]}, key=key)
    (row,) = await box.rows(
        "SELECT answer_status, answer_body FROM reservations WHERE idempotency_key = %s", key
    )
    assert (row["answer_status"], row["answer_body"]) == (sent.status_code, sent.text)
    assert json.loads(row["answer_body"])["state"] == "held"
