"""An application with a route for everything that can happen, and the host it runs in."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Query, Response

from common.errors import DependencyUnavailable, OutcomeUnknown, Problem
from common.events.base import Money, Timestamp
from common.web import (
    IdempotencyKey,
    Page,
    RequestModel,
    ResourceId,
    ResponseModel,
    Router,
    Wait,
    create_web_app,
    deadline,
    from_state,
    json_bytes,
    problems,
)


class Host:
    """A process that is always there, until a test says otherwise."""

    service_name = "probe"
    documented = True
    serves_api = True

    def __init__(self) -> None:
        self.is_alive = True
        self.is_ready = True
        self.is_open = True
        self.is_draining = False

    def state(self) -> Mapping[str, object]:
        return {"word": "hello"}

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        yield

    def asyncapi(self) -> dict[str, Any]:
        return {"asyncapi": "3.0.0"}


class Colour(StrEnum):
    RED = "red"


class Inner(RequestModel):
    name: str


class Body(RequestModel):
    number: int
    share: float = 0.5
    flag: bool = False
    colour: Colour | None = None
    at: Timestamp | None = None
    price: Money | None = None
    inner: tuple[Inner, ...] = ()


class Answer(ResponseModel):
    number: int
    at: Timestamp | None = None


router = Router(tags=["probe"])
ERRORS: dict[str, Exception] = {
    "problem": Problem(409, "seat-unavailable", "Taken", "A-1", unavailable_seats=["s1"]),
    "retry": Problem(404, "reservation-unknown", "Unknown", retry_after_seconds=1),
    "away": DependencyUnavailable("redis", retry_after_seconds=3),
    "unknown-outcome": OutcomeUnknown("database"),
    "bug": RuntimeError("the password is hunter2"),
    "timeout": TimeoutError(),
    "group": ExceptionGroup("several", [ValueError("x")]),
}


@router.post("/things/{thing_id}", status_code=201)
async def make(thing_id: ResourceId, body: Body) -> Answer:
    return Answer(number=body.number, at=body.at)


@router.post("/keyed")
async def keyed(key: IdempotencyKey, wait: Wait) -> dict[str, Any]:
    return {"key": key, "wait": wait}


@router.get("/errors/{name}", responses=problems((409, "seat-unavailable")))
async def fail(name: str) -> Answer:
    raise ERRORS[name]


@router.get("/slow")
@deadline(0.05)
async def slow() -> Answer:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@router.get("/patient")
@deadline(30)
async def patient(seconds: Annotated[float, Query()]) -> Answer:
    await asyncio.sleep(seconds)
    return Answer(number=1)


@router.get("/dawdle")
async def dawdle() -> Answer:
    await asyncio.sleep(0.1)
    return Answer(number=1)


@router.get("/list")
async def listing(page: Page) -> dict[str, Any]:
    return {"limit": page.limit, "after": page.after(str, int)}


@router.get("/bytes", response_model=Answer)
async def ready_made() -> Response:
    return json_bytes(b'{"number": 7}', headers={"Cache-Control": "public, max-age=1"})


@router.post("/large", max_body_size=200_000)
async def large(body: list[int]) -> int:
    return len(body)


@router.get("/word")
async def word(word: Annotated[str, Depends(from_state("word"))]) -> str:
    return word


@pytest.fixture
def probe_router() -> Router:
    return router


@pytest.fixture
def probe_body() -> type[RequestModel]:
    return Body


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
async def client(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    app = create_web_app(host, title="Probe", description="", routers=[router])
    # Nothing may escape: an exception that reaches the server fails the test.
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://probe/api/v1") as client:
        yield client
