"""What clients outside rely on, as the gateway shows it: every call and every event, no other."""

from typing import Any

import httpx
import pytest

SERVICES = ("queue", "concert", "reservation", "payment")

CALLS = {
    "queue": {
        ("put", "/queues/{concert_id}/ticket"): {"200", "201", "409"},
        ("get", "/queues/{concert_id}/ticket"): {"200", "404"},
        ("delete", "/queues/{concert_id}/ticket"): {"204"},
        ("get", "/queues/{concert_id}"): {"200"},
        ("get", "/queues/.well-known/jwks.json"): {"200"},
        ("get", "/admin/queues/{concert_id}"): {"200", "401", "403", "404"},
        ("put", "/admin/queues/{concert_id}"): {"200", "401", "403", "404", "422"},
        ("get", "/admin/dashboard/queues"): {"200", "401", "403"},
    },
    "concert": {
        ("get", "/concerts"): {"200"},
        ("get", "/concerts/{concert_id}"): {"200", "404"},
        ("get", "/concerts/{concert_id}/performances"): {"200", "404"},
        ("get", "/performances/{performance_id}"): {"200", "404"},
        ("get", "/performances/{performance_id}/seats"): {"200", "304", "404"},
        ("get", "/performances/{performance_id}/availability"): {"200", "404"},
        ("post", "/admin/concerts"): {"201", "401", "403", "413", "422"},
        ("put", "/admin/performances/{performance_id}"): {"200", "401", "403", "404", "422"},
        ("get", "/admin/dashboard"): {"200", "401", "403"},
    },
    "reservation": {
        ("post", "/reservations"): {"201", "202", "400", "401", "403", "404", "409", "422", "429"},
        ("get", "/reservations"): {"200", "401"},
        ("get", "/reservations/{reservation_id}"): {"200", "401", "404"},
        ("delete", "/reservations/{reservation_id}"): {"200", "401", "404", "409"},
        ("get", "/admin/dashboard/reservations"): {"200", "401", "403"},
    },
    "payment": {
        ("get", "/wallet"): {"200", "401"},
        ("get", "/wallet/entries"): {"200", "401"},
        ("post", "/wallet/charges"): {"201", "400", "401", "409", "422", "429"},
        ("post", "/payments"): {"201", "202", "400", "401", "402", "404", "409", "410", "422"},
        ("get", "/payments"): {"200", "401"},
        ("get", "/payments/{payment_id}"): {"200", "401", "404"},
        ("get", "/admin/dashboard/payments"): {"200", "401", "403"},
    },
}

HEADERS = [
    ("queue", "put", "/queues/{concert_id}/ticket", "201", {"Retry-After"}),
    ("queue", "put", "/queues/{concert_id}/ticket", "200", {"Retry-After"}),
    ("queue", "get", "/queues/{concert_id}/ticket", "200", {"Retry-After"}),
    ("queue", "get", "/queues/{concert_id}", "200", {"Cache-Control"}),
    ("concert", "get", "/performances/{performance_id}/seats", "200", {"ETag", "Cache-Control"}),
    ("concert", "post", "/admin/concerts", "201", {"Location"}),
    ("reservation", "post", "/reservations", "201", {"Location"}),
    ("reservation", "post", "/reservations", "202", {"Location", "Retry-After"}),
    ("reservation", "post", "/reservations", "429", {"Retry-After"}),
    ("payment", "post", "/payments", "201", {"Location"}),
    ("payment", "post", "/payments", "202", {"Location"}),
]

SENT = {
    "queue": {"admission.ended.v1"},
    "concert": {"performance.scheduled.v1", "performance.sale_changed.v1"},
    "reservation": {
        "reservation.requested.v1",
        "reservation.held.v1",
        "reservation.expired.v1",
        "reservation.cancelled.v1",
        "reservation.confirmed.v1",
        "reservation.rejected.v1",
        "inventory.changed.v1",
    },
    "payment": {
        "payment.authorized.v1",
        "payment.succeeded.v1",
        "payment.refunded.v1",
        "stagedoor.payments.v1",
    },
}

HEARD = {
    "queue": {
        "performance.scheduled.v1",
        "performance.sale_changed.v1",
        "inventory.changed.v1",
        "reservation.confirmed.v1",
    },
    "concert": {"inventory.changed.v1"},
    "reservation": {
        "reservation.requested.v1",
        "performance.scheduled.v1",
        "performance.sale_changed.v1",
        "payment.authorized.v1",
        "payment.refunded.v1",
        "admission.ended.v1",
    },
    "payment": {
        "reservation.held.v1",
        "reservation.expired.v1",
        "reservation.cancelled.v1",
        "reservation.confirmed.v1",
        "reservation.rejected.v1",
    },
}


async def document(http: httpx.AsyncClient, service: str, name: str) -> dict[str, Any]:
    answer = await http.get(f"/docs/{service}/{name}.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("service", SERVICES)
class TestDocuments:
    async def test_openapi_has_every_call_of_the_contract(
        self, http: httpx.AsyncClient, service: str
    ) -> None:
        openapi = await document(http, service, "openapi")
        assert openapi["openapi"].startswith("3.1.")
        found = {
            (method, path.removeprefix("/api/v1")): set(operation["responses"])
            for path, item in openapi["paths"].items()
            for method, operation in item.items()
        }
        assert found.keys() == CALLS[service].keys()
        for call, statuses in CALLS[service].items():
            assert statuses | {"500", "503"} <= found[call], call

    async def test_asyncapi_has_every_event_of_the_contract(
        self, http: httpx.AsyncClient, service: str
    ) -> None:
        asyncapi = await document(http, service, "asyncapi")
        assert asyncapi["asyncapi"].startswith("3.")
        events: dict[str, set[str]] = {"send": set(), "receive": set()}
        for operation in asyncapi["operations"].values():
            for message in operation["messages"]:
                events[operation["action"]].add(message["$ref"].rsplit("/", 1)[1])
        assert events == {"send": SENT[service], "receive": HEARD[service]}

    async def test_the_page_needs_nobody_elses_server(
        self, http: httpx.AsyncClient, service: str
    ) -> None:
        page = await http.get(f"/docs/{service}")
        assert page.status_code == 200
        assert "https://" not in page.text
        for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
            path = f"/docs/{service}/assets/{asset}"
            assert path in page.text
            assert (await http.get(path)).status_code == 200


class TestHeaders:
    @pytest.mark.parametrize(("service", "method", "path", "status", "names"), HEADERS)
    async def test_the_headers_of_the_contract_are_described(
        self,
        http: httpx.AsyncClient,
        *,
        service: str,
        method: str,
        path: str,
        status: str,
        names: set[str],
    ) -> None:
        openapi = await document(http, service, "openapi")
        response = openapi["paths"]["/api/v1" + path][method]["responses"][status]
        assert names <= response["headers"].keys()
