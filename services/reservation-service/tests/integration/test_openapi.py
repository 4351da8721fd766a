"""The documents describe everything the service answers, publishes and hears."""

from reservation_service.app import create_app
from testkit.openapi import assert_complete


async def test_openapi_is_complete(box) -> None:
    assert_complete(create_app(box.settings))


async def test_every_problem_of_the_contract_is_documented(box) -> None:
    responses = create_app(box.settings).openapi()["paths"]["/api/v1/reservations"]["post"][
        "responses"
    ]
    assert set(responses) >= {"201", "202", "400", "401", "403", "404", "409", "422", "503"}
    text = str(responses)
    for code in (
        "pass-required",
        "pass-invalid",
        "performance-unknown",
        "seat-unavailable",
        "limit-exceeded",
        "sale-not-open",
        "request-in-progress",
        "idempotency-key-reused",
        "idempotency-key-missing",
    ):
        assert code in text


async def test_documents_are_served(box) -> None:
    for name in ("openapi.json", "asyncapi.json"):
        assert (await box.client.get(f"/docs/reservation/{name}")).status_code == 200
