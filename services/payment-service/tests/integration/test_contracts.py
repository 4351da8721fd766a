"""Golden events of reservation-service are understood; our own HTTP surface is complete."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common.envelope import Envelope
from common.events import REGISTRY
from common.ids import new_id
from payment_service.app import create_app
from payment_service.consumers import subscriptions
from payment_service.domain import Payable, PayableState, Payment, PaymentState, Wallet
from payment_service.settings import PaymentSettings
from payment_service.store import payments, wallets
from payment_service.store.payments import Request
from testkit.openapi import assert_complete


def golden(repository: Path, type_: str) -> dict[str, Any]:
    text = (repository / "libs/common/tests/golden" / f"{type_}.json").read_text()
    document: dict[str, Any] = json.loads(text)
    return document


async def deliver(scene: Any, document: dict[str, Any], type_: str) -> None:
    """As the broker would, with a field that a later producer may have added."""
    (handler,) = [one.handler for one in subscriptions(scene.saga) if one.event is REGISTRY[type_]]
    event = REGISTRY[type_].model_validate_json(json.dumps(document | {"added_later": 1}))
    now = datetime.now(UTC)
    await handler(event, Envelope(new_id(), type_, "reservation", event.subject, now))


async def make_payment(scene: Any, document: dict[str, Any]) -> Payment:
    """An authorized payment as the golden event speaks of, but of a reservation of this test."""
    payable = Payable(
        reservation_id=document["reservation_id"],
        version=1,
        user_id=document["user_id"],
        concert_id=document["concert_id"],
        performance_id=document["performance_id"],
        seat_ids=(new_id(),),
        state=PayableState.HELD,
        amount=0,
        hold_expires_at=datetime(2100, 1, 1, tzinfo=UTC),
    )
    wallet = Wallet(payable.user_id)
    change = Payment.authorize(
        document["payment_id"], payable, wallet, rival=None, now=datetime.now(UTC)
    )
    request = Request(payable.user_id, payable.reservation_id, new_id(), "a" * 64)

    async def work(tx: Any) -> None:
        _, now = await wallets.lock(tx, payable.user_id)
        await wallets.book(tx, change.transfers, now)
        await payments.insert(tx, change.payment, request, reply_to=None, answer=None)

    await scene.database.run(work)
    return change.payment


class TestGoldenEvents:
    @pytest.mark.parametrize(
        ("type_", "state"),
        [
            ("reservation.held.v1", PayableState.HELD),
            ("reservation.expired.v1", PayableState.EXPIRED),
        ],
    )
    async def test_say_what_may_be_paid(
        self, scene: Any, repository: Path, type_: str, state: PayableState
    ) -> None:
        document = golden(repository, type_) | {"reservation_id": new_id()}
        await deliver(scene, document, type_)
        (row,) = await scene.rows(
            "SELECT state, version, amount FROM payables WHERE reservation_id = %s",
            document["reservation_id"],
        )
        price = document["total"]["amount"] if state is PayableState.HELD else None
        assert row == {"state": state.value, "version": document["version"], "amount": price}

    @pytest.mark.parametrize(
        ("type_", "state"),
        [
            ("reservation.confirmed.v1", PaymentState.SUCCEEDED),
            ("reservation.rejected.v1", PaymentState.REFUNDED),
            ("reservation.cancelled.v1", PaymentState.REFUNDED),
        ],
    )
    async def test_conclude_payments(
        self, scene: Any, repository: Path, type_: str, state: PaymentState
    ) -> None:
        own = {"reservation_id": new_id(), "payment_id": new_id(), "user_id": new_id()}
        document = golden(repository, type_) | own
        payment = await make_payment(scene, document)
        await deliver(scene, document, type_)
        found = await scene.payments.get(payment.user_id, payment.payment_id)
        assert found.state is state

    def test_every_event_we_hear_has_one(self, scene: Any, repository: Path) -> None:
        for subscription in subscriptions(scene.saga):
            document = golden(repository, subscription.event.type)
            event = subscription.event.model_validate_json(json.dumps(document))
            assert json.loads(event.model_dump_json()) == document


class TestOpenApi:
    def test_is_complete(self, settings: PaymentSettings) -> None:
        assert_complete(create_app(settings))

    def test_names_every_status_of_the_contract(self, settings: PaymentSettings) -> None:
        paths = create_app(settings).openapi()["paths"]
        statuses = {
            (method.upper(), path): {int(status) for status in operation["responses"]}
            for path, item in paths.items()
            for method, operation in item.items()
        }
        common = {401, 500, 503}
        assert statuses[("POST", "/api/v1/payments")] == common | {
            201, 202, 400, 402, 404, 408, 409, 410, 413, 415, 422, 429,
        }  # fmt: skip
        assert statuses[("POST", "/api/v1/wallet/charges")] == common | {
            201, 400, 408, 409, 413, 415, 422, 429,
        }  # fmt: skip
        assert set(statuses) == {
            ("GET", "/api/v1/wallet"),
            ("GET", "/api/v1/wallet/entries"),
            ("POST", "/api/v1/wallet/charges"),
            ("POST", "/api/v1/payments"),
            ("GET", "/api/v1/payments"),
            ("GET", "/api/v1/payments/{payment_id}"),
            ("GET", "/api/v1/admin/dashboard/payments"),
        }
