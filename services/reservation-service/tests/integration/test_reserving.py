"""``POST /reservations`` through HTTP, lanes and all: every answer of the contract."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from common.events import AdmissionEnded, PerformanceSaleChanged, SaleState
from common.ids import new_id
from reservation_service.app import create_app
from testkit import eventually, running

NOW = datetime.now(UTC)


class TestHolding:
    async def test_a_fan_gets_the_seats_asked_for(self, box) -> None:
        show = await box.show()
        response = await box.reserve("ada", show, {"seat_ids": list(show.seat_ids[:2])})
        assert response.status_code == 201, response.text
        body = response.json()
        assert body["state"] == "held"
        assert [seat["seat_id"] for seat in body["seats"]] == list(show.seat_ids[:2])
        assert body["total"] == {"amount": 2000, "currency": "KRW"}
        assert body["hold_expires_in_seconds"] == 300
        assert response.headers["location"] == f"/api/v1/reservations/{body['reservation_id']}"
        event = await box.event_of("reservation.held.v1", reservation_id=body["reservation_id"])
        assert event["hold_expires_at"] == body["hold_expires_at"]
        changed = await box.event_of(
            "inventory.changed.v1", performance_id=show.performance_id, version=1
        )
        assert changed["seats_left"] == 18
        assert {seat["state"] for seat in changed["seats"]} == {"held"}

    async def test_200_fans_for_one_seat_one_wins(self, box) -> None:
        show = await box.show(1)
        seat = {"seat_ids": [show.seat_ids[0]]}
        answers = await asyncio.gather(
            *(box.reserve(f"fan {number}", show, seat) for number in range(200))
        )
        assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 199}
        for answer in answers:
            if answer.status_code == 409:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] == "seat-unavailable"
                assert answer.json()["unavailable_seats"] == [show.seat_ids[0]]
        (winner,) = [a.json()["reservation_id"] for a in answers if a.status_code == 201]
        assert await box.seat_owners(show) == {show.seat_ids[0]: [winner]}
        # The losers met the claim: only the winner's request was ever decided.
        decided = await box.rows(
            "SELECT COUNT(*) AS n FROM reservations WHERE performance_id = %s",
            show.performance_id,
        )
        assert decided == [{"n": 1}]

    async def test_best_available_gives_neighbours(self, box) -> None:
        show = await box.show(20)
        await box.held("bob", show, 1)
        wish = {"best_available": {"category": "floor", "quantity": 3}}
        response = await box.reserve("ada", show, wish)
        assert [seat["label"] for seat in response.json()["seats"]] == ["0-2", "0-3", "0-4"]

    async def test_best_available_says_no_when_nobody_can_sit_together(self, box) -> None:
        show = await box.show(4, seats_a_row=2)
        wish = {"best_available": {"category": "floor", "quantity": 3}}
        response = await box.reserve("ada", show, wish)
        assert response.status_code == 409
        assert response.json()["code"] == "seat-unavailable"
        assert response.json()["unavailable_seats"] == []

    async def test_overlapping_sets_are_all_or_nothing(self, box) -> None:
        show = await box.show(4)
        asked = {"seat_ids": list(show.seat_ids)}
        answers = await asyncio.gather(
            *(box.reserve(f"fan {n}", show, asked) for n in range(4)),
            *(box.reserve(f"fan {n}", show, {"seat_ids": asked["seat_ids"][::-1]}) for n in (8, 9)),
        )
        assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 5}
        owners = await box.seat_owners(show)
        assert {tuple(ids) for ids in owners.values()} == {
            (a.json()["reservation_id"],) for a in answers if a.status_code == 201
        }

    async def test_the_lane_tells_which_seats_are_gone_when_redis_forgot(self, box) -> None:
        show = await box.show()
        await box.held("bob", show, 3)
        await box.redis.delete(box.claims.mark(show.seat_ids[3]))
        asked = {"seat_ids": [show.seat_ids[2], show.seat_ids[3]]}
        response = await box.reserve("ada", show, asked)
        assert response.status_code == 409
        assert response.json()["unavailable_seats"] == [show.seat_ids[3]]
        # The claim of the free seat was given back: somebody else can have it at once.
        await box.held("cy", show, 2)


class TestRefusals:
    async def refused(self, box, show: Any, status: int, code: str, **more: Any) -> None:
        body = more.pop("body", {"seat_ids": [show.seat_ids[0]]})
        response = await box.reserve(more.pop("user_id", "ada"), show, body, **more)
        assert (response.status_code, response.json()["code"]) == (status, code), response.text
        assert response.headers["content-type"] == "application/problem+json"

    async def test_without_a_token(self, box) -> None:
        show = await box.show()
        await self.refused(box, show, 401, "unauthenticated", headers={"Authorization": "Bearer x"})

    async def test_without_a_key(self, box) -> None:
        show = await box.show()
        response = await box.client.post(
            "/api/v1/reservations",
            json={"performance_id": show.performance_id, "seat_ids": [show.seat_ids[0]]},
            headers=box.fan("ada", show),
        )
        assert (response.status_code, response.json()["code"]) == (400, "idempotency-key-missing")

    async def test_without_a_pass(self, box) -> None:
        show = await box.show()
        response = await box.client.post(
            "/api/v1/reservations",
            json={"performance_id": show.performance_id, "seat_ids": [show.seat_ids[0]]},
            headers=box.bearer("ada") | {"Idempotency-Key": new_id()},
        )
        assert (response.status_code, response.json()["code"]) == (403, "pass-required")

    @pytest.mark.parametrize(
        ("user_id", "claims"),
        [
            ("mallory", {}),  # somebody else's
            ("ada", {"concert": new_id()}),  # of another concert
            ("ada", {"exp": 1_700_000_000}),  # over
            ("ada", {"aud": "queue"}),  # for something else
            ("ada", {"pass_id": "1"}),  # no pass of ours
            ("ada", {"pass_id": None}),
        ],
    )
    async def test_with_a_pass_that_is_not_ones_own(
        self, box, user_id: str, claims: dict[str, Any]
    ) -> None:
        show = await box.show()
        concert_id = claims.get("concert", show.concert_id)
        forged = box.queue_pass(user_id, concert_id, **claims)
        await self.refused(box, show, 403, "pass-invalid", headers=forged)

    async def test_with_a_pass_whose_signature_is_broken(self, box) -> None:
        show = await box.show()
        token = box.queue_pass.token("ada", show.concert_id)
        middle = token.rindex(".") + 20
        broken = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
        await self.refused(box, show, 403, "pass-invalid", headers={"Queue-Pass": broken})

    async def test_with_a_pass_whose_admission_ended(self, box) -> None:
        show = await box.show()
        pass_id = new_id()
        ended = AdmissionEnded(
            pass_id=pass_id,
            concert_id=show.concert_id,
            user_id="ada",
            version=2,
            cause="left",
            ended_at=NOW,
        )
        await box.tell(ended)
        await eventually(lambda: box.rows("SELECT 1 FROM ended_passes WHERE pass_id = %s", pass_id))
        over = box.queue_pass("ada", show.concert_id, pass_id=pass_id)
        await self.refused(box, show, 403, "pass-invalid", headers=over)

    async def test_an_unknown_performance(self, box) -> None:
        show = await box.show()
        body = {"performance_id": new_id(), "seat_ids": [show.seat_ids[0]]}
        await self.refused(box, show, 404, "performance-unknown", body=body)

    async def test_a_sale_that_is_not_open(self, box) -> None:
        show = await box.show(sale=SaleState.SCHEDULED)
        await self.refused(box, show, 409, "sale-not-open")

    async def test_it_opens_when_concert_service_says_so(self, box) -> None:
        show = await box.show(sale=SaleState.SCHEDULED)
        for version, sale in ((3, "open"), (2, "closed")):  # the older one comes late
            await box.tell(
                PerformanceSaleChanged(
                    performance_id=show.performance_id,
                    concert_id=show.concert_id,
                    version=version,
                    sale=SaleState(sale),
                    previous_sale=SaleState.SCHEDULED,
                    sale_opens_at=None,
                    occurred_at=NOW,
                )
            )

        async def buys() -> bool:
            body = {"seat_ids": [show.seat_ids[0]]}
            return (await box.reserve("ada", show, body)).status_code == 201

        await eventually(buys)

    async def test_more_seats_than_a_fan_may_have(self, box) -> None:
        show = await box.show(max_seats_per_fan=2)
        await box.held("ada", show, 0)
        body = {"seat_ids": list(show.seat_ids[1:3])}
        await self.refused(box, show, 409, "limit-exceeded", body=body)
        await box.held("ada", show, 1)

    async def test_a_fan_asking_twenty_times_at_once_gets_no_more_than_the_limit(self, box) -> None:
        show = await box.show(20, max_seats_per_fan=4)
        answers = await asyncio.gather(
            *(box.reserve("ada", show, {"seat_ids": [seat]}) for seat in show.seat_ids)
        )
        codes = Counter(a.json().get("code", a.status_code) for a in answers)
        assert codes == {201: 4, "limit-exceeded": 16}

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"seat_ids": []},
            {"seat_ids": ["x"]},
            {"seat_ids": "all"},
            {"seat_ids": [1]},
            {"best_available": {"category": "floor"}},
            {"best_available": {"category": "floor", "quantity": 0}},
            {"best_available": {"category": "floor", "quantity": "2"}},
            {"best_available": {"category": "floor", "quantity": 101}},
            {"best_available": {"category": "", "quantity": 1}},
            {"best_available": {"category": "floor", "quantity": 1, "row": "A"}},
            {"seat_ids": [new_id()], "best_available": {"category": "floor", "quantity": 1}},
            {"seat_ids": [new_id()], "user_id": "bob"},
            {"seat_ids": [new_id()] * 2, "performance_id": new_id()},
            {"seat_ids": [new_id()], "performance_id": "1"},
        ],
    )
    async def test_a_malformed_body(self, box, body: dict[str, Any]) -> None:
        show = await box.show(1)
        if body.get("seat_ids") and len(body["seat_ids"]) == 2:
            body = {"seat_ids": [body["seat_ids"][0]] * 2}
        await self.refused(box, show, 422, "request-invalid", body=body)


class TestIdempotency:
    async def test_a_hold_replays_byte_for_byte(self, box) -> None:
        show, key = await box.show(), new_id()
        body = {"seat_ids": [show.seat_ids[0]]}
        first = await box.reserve("ada", show, body, key=key)
        again = await asyncio.gather(*(box.reserve("ada", show, body, key=key) for _ in range(5)))
        assert {a.content for a in again} == {first.content}
        assert {a.status_code for a in again} == {201}
        assert {a.headers["location"] for a in again} == {first.headers["location"]}
        assert len(await box.seat_owners(show)) == 1

    @pytest.mark.parametrize("forgotten", [False, True])
    async def test_it_replays_after_the_hold_the_pass_and_the_sale_are_over(
        self, box, *, forgotten: bool
    ) -> None:
        show, key = await box.show(), new_id()
        body = {"seat_ids": [show.seat_ids[0]]}
        first = await box.reserve("ada", show, body, key=key)
        await box.delete("ada", first.json()["reservation_id"])
        if forgotten:
            await box.redis.delete(box.claims.record("ada", key))
        no_pass = box.queue_pass("ada", show.concert_id, exp=1_700_000_000)
        again = await box.reserve("ada", show, body, key=key, headers=no_pass)
        assert again.content == first.content
        assert again.status_code == 201

    async def test_it_replays_when_redis_forgot_everything(self, box) -> None:
        show, key = await box.show(), new_id()
        body = {"seat_ids": [show.seat_ids[0]]}
        first = await box.reserve("ada", show, body, key=key)
        await box.redis.delete(box.claims.record("ada", key), box.claims.mark(show.seat_ids[0]))
        again = await box.reserve("ada", show, body, key=key)
        assert (again.status_code, again.content) == (201, first.content)
        assert len((await box.seat_owners(show))[show.seat_ids[0]]) == 1

    async def test_a_losers_409_replays_byte_for_byte(self, box) -> None:
        show, key = await box.show(), new_id()
        held = await box.held("bob", show, 0)
        body = {"seat_ids": [show.seat_ids[1], show.seat_ids[0]]}
        first = await box.reserve("ada", show, body, key=key)
        assert first.json()["unavailable_seats"] == [show.seat_ids[0]]
        await box.delete("bob", held["reservation_id"])  # free again: the answer stays
        again = await box.reserve("ada", show, body, key=key)
        assert (again.status_code, again.content) == (409, first.content)
        assert (await box.reserve("ada", show, body)).status_code == 201

    async def test_the_lanes_refusal_replays_byte_for_byte(self, box) -> None:
        show, key = await box.show(max_seats_per_fan=1), new_id()
        body = {"seat_ids": list(show.seat_ids[:2])}
        first = await box.reserve("ada", show, body, key=key)
        again = await box.reserve("ada", show, body, key=key)
        assert (again.status_code, again.content) == (409, first.content)

    @pytest.mark.parametrize("forgotten", [False, True])
    async def test_another_body_with_the_same_key_is_refused(self, box, *, forgotten: bool) -> None:
        show, key = await box.show(), new_id()
        await box.reserve("ada", show, {"seat_ids": [show.seat_ids[0]]}, key=key)
        if forgotten:
            await box.redis.delete(box.claims.record("ada", key))
        other = await box.reserve("ada", show, {"seat_ids": [show.seat_ids[1]]}, key=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
        # The seat it claimed in vain is free.
        await box.held("bob", show, 1)

    async def test_a_key_belongs_to_its_user(self, box) -> None:
        show, key = await box.show(), new_id()
        for number, user_id in enumerate(("ada", "bob")):
            body = {"seat_ids": [show.seat_ids[number]]}
            assert (await box.reserve(user_id, show, body, key=key)).status_code == 201

    async def test_the_same_call_ten_times_at_once_has_one_effect(self, box) -> None:
        show, key = await box.show(), new_id()
        body = {"best_available": {"category": "floor", "quantity": 1}}
        answers = await asyncio.gather(
            *(box.reserve("ada", show, body, key=key) for _ in range(10))
        )
        codes = {a.json().get("code", "held") for a in answers}
        assert codes <= {"held", "request-in-progress"}
        assert len({a.content for a in answers if a.status_code == 201}) == 1
        assert len(await box.seat_owners(show)) == 1


class TestSlowLane:
    """A transaction holds the performance: its lane waits, and rejects nothing."""

    async def test_202_then_the_present_state_then_the_final_answer(self, box) -> None:
        show, key = await box.show(), new_id()
        body = {"seat_ids": [show.seat_ids[0]]}
        settings = box.settings.model_copy(update={"instance": "slow"})
        async with running(create_app, settings, role="api") as slow:
            async with box.busy(show):
                first = asyncio.create_task(
                    box.reserve(
                        "ada", show, body, key=key, client=slow, headers={"Prefer": "wait=1"}
                    )
                )
                record = box.claims.record("ada", key)
                await eventually(lambda: box.redis.hget(record, "state"))
                meanwhile = await box.reserve("ada", show, body, key=key, client=slow)
                assert meanwhile.json()["code"] == "request-in-progress"
                pending = await first
                assert pending.status_code == 202
                assert pending.json()["state"] == "pending"
                location = pending.headers["location"].removeprefix("/api/v1/reservations")
                assert (await box.get("ada", location)).json() == pending.json()
                assert (await box.get("bob", location)).status_code == 404
                cancel = await box.delete("ada", pending.json()["reservation_id"])
                assert (cancel.status_code, cancel.json()["code"]) == (409, "reservation-pending")
                again = await box.reserve(
                    "ada", show, body, key=key, client=slow, headers={"Prefer": "wait=0"}
                )
                assert (again.status_code, again.json()) == (202, pending.json())
            final = await box.reserve("ada", show, body, key=key, client=slow)
            assert final.status_code == 201
            assert final.json()["reservation_id"] == pending.json()["reservation_id"]
            assert (await box.get("ada", location)).json()["state"] == "held"
            replay = await box.reserve("ada", show, body, key=key, client=slow)
            assert replay.content == final.content
