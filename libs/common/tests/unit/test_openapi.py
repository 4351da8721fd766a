"""OpenAPI says everything, and the completeness check notices when it does not."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import Body, Depends, FastAPI

from common.web import (
    AdminUser,
    CurrentUser,
    IdempotencyKey,
    Page,
    QueuePass,
    RateLimit,
    RequestModel,
    ResourceId,
    ResponseModel,
    Router,
    Wait,
    create_web_app,
    problems,
    sent_headers,
)
from testkit.openapi import assert_complete, faults_of

ONLY_DESCRIBED = "these routes are there to be documented; no test calls them"


class Host:
    service_name = "probe"
    documented = True
    serves_api = True
    is_alive = is_ready = is_open = True
    is_draining = False

    def state(self) -> Mapping[str, object]:
        return {}

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        yield

    def asyncapi(self) -> None:
        return None


class Wish(RequestModel):
    seat_ids: tuple[str, ...]


class Held(ResponseModel):
    reservation_id: str


def app_of(router: Router) -> FastAPI:
    return create_web_app(Host(), title="Probe", description="Probe.", routers=[router])


def complete() -> Router:
    router = Router(tags=["reservations"])
    limit = Depends(RateLimit("reservations", quota=5, window_seconds=10))

    @router.post(
        "/reservations",
        status_code=201,
        dependencies=[limit],
        responses={202: {"model": Held, "description": "Pending"}}
        | problems(
            (403, "pass-required", "pass-invalid"), (409, "seat-unavailable"), (429, "rate-limited")
        ),
    )
    async def reserve(
        body: Wish, user: CurrentUser, admitted: QueuePass, key: IdempotencyKey, wait: Wait
    ) -> Held:
        raise AssertionError(ONLY_DESCRIBED)

    @router.get("/reservations/{reservation_id}", responses=problems((404, "no-reservation")))
    async def look(reservation_id: ResourceId, user: CurrentUser) -> Held:
        raise AssertionError(ONLY_DESCRIBED)

    @router.get("/admin/reservations")
    async def everything(page: Page, user: AdminUser) -> list[Held]:
        raise AssertionError(ONLY_DESCRIBED)

    @router.delete("/reservations/{reservation_id}", status_code=204)
    async def leave(reservation_id: ResourceId, user: CurrentUser) -> None:
        raise AssertionError(ONLY_DESCRIBED)

    return router


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return app_of(complete()).openapi()


def codes(operation: dict[str, Any]) -> dict[str, list[str]]:
    found = {}
    for status, response in operation["responses"].items():
        schema = response.get("content", {}).get("application/problem+json", {}).get("schema")
        if schema:
            found[status] = schema["allOf"][1]["properties"]["code"]["enum"]
    return found


def test_a_careful_service_is_complete() -> None:
    assert_complete(app_of(complete()))


def test_common_problems_are_added_to_the_route_s_own(document: dict[str, Any]) -> None:
    assert codes(document["paths"]["/api/v1/reservations"]["post"]) == {
        "400": ["idempotency-key-missing"],
        "401": ["unauthenticated"],
        "403": ["pass-invalid", "pass-required"],
        "408": ["request-timeout"],
        "409": ["seat-unavailable"],
        "413": ["body-too-large"],
        "415": ["unsupported-media-type"],
        "422": ["request-invalid"],
        "429": ["rate-limited"],
        "500": ["internal-error"],
        "503": ["dependency-unavailable", "overloaded"],
    }
    assert codes(document["paths"]["/api/v1/admin/reservations"]["get"])["403"] == ["forbidden"]
    look = document["paths"]["/api/v1/reservations/{reservation_id}"]["get"]
    assert codes(look)["404"] == ["no-reservation"]


def test_security_and_headers_are_documented(document: dict[str, Any]) -> None:
    reserve = document["paths"]["/api/v1/reservations"]["post"]
    names = {name for scheme in reserve["security"] for name in scheme}
    assert names == {"bearer", "queue-pass"}
    schemes = document["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["queue-pass"]["in"], schemes["queue-pass"]["name"]) == ("header", "Queue-Pass")
    parameters = {one["name"]: one for one in reserve["parameters"]}
    assert parameters["Idempotency-Key"]["required"] is True
    assert parameters["Idempotency-Key"]["schema"]["maxLength"] == 128
    assert parameters["Prefer"]["required"] is False


def test_no_body_is_promised_that_is_never_sent(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in document["components"]["schemas"]


class TestNotices:
    """Each fault, made on purpose."""

    def faults(self, router: Router) -> list[str]:
        return list(faults_of(app_of(router)))

    def test_an_answer_without_a_model(self) -> None:
        router = Router(tags=["x"])
        router.add_api_route("/x", _anything, methods=["GET"])
        assert self.faults(router) == ["GET /api/v1/x: 200 has a body without a model"]

    def test_a_body_without_a_model(self) -> None:
        router = Router(tags=["x"])
        router.add_api_route("/x", _any_body, methods=["POST"])
        assert self.faults(router) == ["POST /api/v1/x: takes a body without a model"]

    def test_a_missing_tag(self) -> None:
        router = Router()
        router.add_api_route("/x", _held, methods=["GET"])
        assert self.faults(router) == ["GET /api/v1/x: has no tags"]

    def test_an_error_that_is_no_problem(self) -> None:
        router = Router(tags=["x"])
        router.add_api_route(
            "/x", _held, methods=["GET"], responses={409: {"model": Held, "description": "No"}}
        )
        assert self.faults(router) == ["GET /api/v1/x: 409 is ['application/json'], not a problem"]

    def test_a_problem_without_a_code(self) -> None:
        router = Router(tags=["x"])
        router.add_api_route("/x", _held, methods=["GET"], responses=problems((409,)))
        assert self.faults(router) == ["GET /api/v1/x: 409 names no code"]

    def test_an_open_admin_route(self) -> None:
        router = Router(tags=["x"])
        router.add_api_route("/admin/x", _held, methods=["GET"])
        assert self.faults(router) == ["GET /api/v1/admin/x: documents no 401"]

    def test_a_limit_nobody_is_told_of(self) -> None:
        router = Router(tags=["x"])
        limit = Depends(RateLimit("x", quota=1, window_seconds=1))
        router.add_api_route("/x", _held, methods=["GET"], dependencies=[limit])
        (fault,) = self.faults(router)
        assert fault == "GET /api/v1/x: is rate limited but documents no 429"

    def test_a_document_that_is_not_openapi(self) -> None:
        router = Router(tags=["x"])
        router.add_api_route(
            "/x", _held, methods=["GET"], openapi_extra={"responses": {"200": {"description": 5}}}
        )
        assert any(fault.startswith("document:") for fault in self.faults(router))

    def test_everything_the_common_problems_add(self) -> None:
        app = app_of(complete())
        for path in app.openapi()["paths"].values():
            for operation in path.values():
                operation["responses"] = {"200": {"description": "fine"}}
        faults = "\n".join(faults_of(app))
        for status in ("401", "403", "404", "413", "415", "422", "429", "500", "503"):
            assert f"documents no {status}" in faults
        assert "has no body" in faults


async def _held() -> Held:
    raise AssertionError(ONLY_DESCRIBED)


async def _anything() -> Any:
    raise AssertionError(ONLY_DESCRIBED)


async def _any_body(body: Annotated[Any, Body()]) -> Held:
    raise AssertionError(ONLY_DESCRIBED)


def test_sent_headers_are_named_as_http_names_them() -> None:
    described = sent_headers(location="Where", retry_after="Seconds", ETag="One a coding")
    assert list(described) == ["Location", "Retry-After", "ETag"]
    assert described["Retry-After"] == {"description": "Seconds", "schema": {"type": "string"}}
