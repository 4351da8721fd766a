"""The scripts by themselves: who may set and who may drop a mark, and what a key remembers."""

from datetime import UTC, datetime, timedelta
from typing import Any

from common.ids import new_id
from reservation_service.store.claims import Claim, ClaimOutcome

HASH, OTHER = "a" * 64, "b" * 64


async def claim(box, seats: list[str], **changes: Any) -> Claim:
    arguments = {
        "reservation_id": new_id(),
        "user_id": "ada",
        "key": new_id(),
        "body_hash": HASH,
        "performance_id": new_id(),
        "seat_ids": seats,
    }
    found: Claim = await box.claims.claim(**(arguments | changes))
    return found


async def settle(box, reservation_id: str, seats: list[str], until: datetime | None) -> None:
    await box.claims.settle(
        reservation_id=reservation_id,
        user_id="ada",
        key=new_id(),
        answered_by=reservation_id,
        body_hash=HASH,
        performance_id=new_id(),
        seat_ids=seats,
        held_until=until,
    )


async def mark(box, seat: str) -> bytes | None:
    found: bytes | None = await box.redis.get(box.claims.mark(seat))
    return found


async def test_claims_are_all_or_nothing_and_end_by_themselves(box) -> None:
    seats = [new_id() for _ in range(3)]
    first = await claim(box, seats[1:2])
    second = await claim(box, seats)
    assert (second.outcome, second.lost_places) == (ClaimOutcome.LOST, (1,))
    assert await mark(box, seats[0]) is None
    assert await mark(box, seats[1]) == f"{first.reservation_id}|claim".encode()
    assert 9_000 < await box.redis.pttl(box.claims.mark(seats[1])) <= 10_000


async def test_a_claim_sent_twice_by_the_client_library_is_one(box) -> None:
    same = {"reservation_id": new_id(), "key": new_id(), "seats": [new_id()]}
    outcomes = [(await claim(box, **same)).outcome for _ in range(2)]
    assert outcomes == [ClaimOutcome.GRANTED] * 2


async def test_only_the_owner_releases(box) -> None:
    seat = new_id()
    owner = await claim(box, [seat])
    for stranger in (new_id(), owner.reservation_id[:-1]):
        await box.claims.release(stranger, [seat])
        await settle(box, stranger, [seat], None)
        await box.claims.abandon("ada", new_id(), stranger, [seat])
        assert await mark(box, seat) == f"{owner.reservation_id}|claim".encode()
    await box.claims.release(owner.reservation_id, [seat])
    assert await mark(box, seat) is None


async def test_a_late_settling_never_takes_the_mark_of_another_hold_or_sale(box) -> None:
    seat, end = new_id(), datetime.now(UTC) + timedelta(minutes=5)
    await settle(box, owner := new_id(), [seat], end)
    await settle(box, new_id(), [seat], end)
    assert await mark(box, seat) == f"{owner}|held".encode()
    await box.claims.mark_sold(owner, [seat])
    await settle(box, new_id(), [seat], end)
    await box.claims.mark_sold(new_id(), [seat])
    assert await mark(box, seat) == f"{owner}|sold".encode()


async def test_settling_a_hold_that_is_over_leaves_no_mark(box) -> None:
    seat = new_id()
    await settle(box, new_id(), [seat], datetime.now(UTC) - timedelta(seconds=1))
    assert await mark(box, seat) is None


async def test_a_decided_hold_takes_over_a_rivals_claim(box) -> None:
    seat, owner = new_id(), new_id()
    await claim(box, [seat])
    await settle(box, owner, [seat], datetime.now(UTC) + timedelta(minutes=5))
    assert await mark(box, seat) == f"{owner}|held".encode()


async def test_another_body_is_told_from_a_repetition_in_every_state(box) -> None:
    taken, key = new_id(), new_id()
    await claim(box, [taken])
    assert (await claim(box, [taken], key=key)).outcome is ClaimOutcome.LOST
    assert (await claim(box, [taken], key=key)).outcome is ClaimOutcome.LOST
    other = await claim(box, [new_id()], key=key, body_hash=OTHER)
    assert other.outcome is ClaimOutcome.REUSED
    opened, key = new_id(), new_id()
    await claim(box, [opened], key=key)
    assert (await claim(box, [opened], key=key)).outcome is ClaimOutcome.OPEN
    other = await claim(box, [new_id()], key=key, body_hash=OTHER)
    assert other.outcome is ClaimOutcome.REUSED


async def test_a_key_whose_first_call_died_is_taken_over_under_its_id(box) -> None:
    seat, key = new_id(), new_id()
    first = await claim(box, [seat], key=key)
    await box.redis.hset(box.claims.record("ada", key), "until", 1)
    second = await claim(box, [seat], key=key)
    assert second == Claim(ClaimOutcome.TAKEN_OVER, first.reservation_id)
    assert (await claim(box, [seat], key=key)).outcome is ClaimOutcome.OPEN


async def test_a_settling_or_sale_told_after_its_end_keeps_nobody_from_the_seat(box) -> None:
    # A worker may freeze between its commit and this call, and wake when the fan has cancelled.
    seats, owner = [new_id(), new_id()], new_id()
    await box.claims.release(owner, seats)
    rival = await claim(box, seats[1:])
    await settle(box, owner, seats, datetime.now(UTC) + timedelta(minutes=5))
    await box.claims.mark_sold(owner, seats)
    assert await mark(box, seats[0]) is None
    assert await mark(box, seats[1]) == f"{rival.reservation_id}|claim".encode()
