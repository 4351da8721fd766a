"""Every answer of an application: problems, strictness, deadlines, headers, logs."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Response
from structlog.testing import capture_logs

from common.errors import DependencyUnavailable, OutcomeUnknown, Problem
from common.events.base import Money, Timestamp
from common.ids import new_id
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
    decode_cursor,
    encode_cursor,
    from_state,
    json_bytes,
    next_cursor,
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
def host() -> Host:
    return Host()


@pytest.fixture
async def client(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    app = create_web_app(host, title="Probe", description="", routers=[router])
    # Nothing may escape: an exception that reaches the server fails the test.
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://probe/api/v1") as client:
        yield client


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"urn:stagedoor:problem:{code}"
    assert body["title"]
    assert answer.headers["cache-control"] == "no-store"
    return body


def thing() -> str:
    return f"/things/{new_id()}"


JSON = {"Content-Type": "application/json"}


class TestErrors:
    async def test_a_problem_is_what_was_raised(self, client: httpx.AsyncClient) -> None:
        body = assert_problem(await client.get("/errors/problem"), 409, "seat-unavailable")
        assert body["detail"] == "A-1"
        assert body["unavailable_seats"] == ["s1"]

    async def test_a_problem_may_say_when_to_come_back(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/errors/retry")
        assert_problem(answer, 404, "reservation-unknown")
        assert answer.headers["retry-after"] == "1"

    @pytest.mark.parametrize(("name", "seconds"), [("away", "3"), ("unknown-outcome", "1")])
    async def test_a_dependency_that_is_away_is_503(
        self, client: httpx.AsyncClient, name: str, seconds: str
    ) -> None:
        answer = await client.get(f"/errors/{name}")
        assert_problem(answer, 503, "dependency-unavailable")
        assert answer.headers["retry-after"] == seconds

    async def test_a_timeout_inside_is_503(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/errors/timeout")
        assert_problem(answer, 503, "dependency-unavailable")
        assert answer.headers["retry-after"] == "1"

    @pytest.mark.parametrize("name", ["bug", "group"])
    async def test_a_bug_is_500_without_internals(
        self, client: httpx.AsyncClient, name: str
    ) -> None:
        with capture_logs() as logs:
            answer = await client.get(f"/errors/{name}")
        assert_problem(answer, 500, "internal-error")
        assert "hunter2" not in answer.text
        assert [line["event"] for line in logs] == ["unhandled-error", "request"]

    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "/nowhere", 404, "not-found"),
            ("GET", "/things/%00", 405, "method-not-allowed"),
            ("DELETE", "/slow", 405, "method-not-allowed"),
            ("POST", "/things/42", 404, "not-found"),  # no id: nothing has this name
            ("POST", "/things/%C3%A9%00", 404, "not-found"),
            ("POST", f"/things/{new_id().upper()}", 404, "not-found"),
        ],
    )
    async def test_what_is_not_there(
        self, client: httpx.AsyncClient, method: str, path: str, status: int, code: str
    ) -> None:
        answer = await client.request(
            method, path, json={"number": 1} if method == "POST" else None
        )
        assert_problem(answer, status, code)
        assert ("allow" in answer.headers) == (status == 405)

    async def test_a_problem_names_its_trace(self, client: httpx.AsyncClient) -> None:
        trace = "0af7651916cd43dd8448eb211c80319c"
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        answer = await client.get("/nowhere", headers=headers)
        assert answer.json()["trace_id"] == trace
        assert answer.headers["traceparent"].split("-")[1] == trace


class TestBodies:
    async def test_every_type_json_can_say(self, client: httpx.AsyncClient) -> None:
        body = {
            "number": 1,
            "share": 1,
            "flag": True,
            "colour": "red",
            "at": "2026-11-21T01:02:03+01:00",
            "price": {"amount": 5, "currency": "KRW"},
            "inner": [{"name": "a"}],
        }
        answer = await client.post(thing(), json=body)
        assert answer.status_code == 201
        assert answer.json() == {"number": 1, "at": "2026-11-21T00:02:03.000000Z"}

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ('{"number":"1"}', "#/number"),
            ('{"number":1.0}', "#/number"),
            ('{"number":true}', "#/number"),
            ('{"number":null}', "#/number"),
            ("{}", "#/number"),
            ('{"number":1,"flag":1}', "#/flag"),
            ('{"number":1,"share":"0.5"}', "#/share"),
            ('{"number":1,"colour":"blue"}', "#/colour"),
            ('{"number":1,"at":5}', "#/at"),
            ('{"number":1,"at":"5"}', "#/at"),
            ('{"number":1,"at":"2026-11-21"}', "#/at"),
            ('{"number":1,"at":"2026-11-21T00:00:00"}', "#/at"),  # no zone: which moment?
            ('{"number":1,"at":"0001-01-01T00:00:00+14:00"}', "#/at"),  # before year 1 in UTC
            ('{"number":1,"price":{"amount":"5"}}', "#/price/amount"),
            ('{"number":1,"price":{"amount":5,"x":1}}', "#/price/x"),
            ('{"number":1,"inner":[{"name":5}]}', "#/inner/0/name"),
            ('{"number":1,"inner":[{"name":"a","more":1}]}', "#/inner/0/more"),
            ('{"number":1,"a/b~c":1}', "#/a~1b~0c"),
            ("[]", "#"),
            ("null", "#"),
            ("", "#"),
            ("{", "#"),
            ('{"number":NaN}', "#"),
            ('{"number":9223372036854775808}', "#"),
        ],
    )
    async def test_a_faulty_body_is_422_and_says_where(
        self, client: httpx.AsyncClient, body: str, pointer: str
    ) -> None:
        answer = await client.post(thing(), content=body, headers=JSON)
        errors = assert_problem(answer, 422, "request-invalid")["errors"]
        assert [error["pointer"] for error in errors] == [pointer]
        assert errors[0]["message"]

    async def test_the_list_of_faults_is_bounded(self, client: httpx.AsyncClient) -> None:
        body = {"number": 1} | {f"x{number}": 1 for number in range(500)}
        answer = await client.post(thing(), json=body)
        assert len(assert_problem(answer, 422, "request-invalid")["errors"]) == 20

    @pytest.mark.parametrize("media_type", [None, "text/plain", "application/xml"])
    async def test_another_media_type_is_415(
        self, client: httpx.AsyncClient, media_type: str | None
    ) -> None:
        headers = {"Content-Type": media_type} if media_type else {}
        answer = await client.post(thing(), content=b'{"number":1}', headers=headers)
        assert_problem(answer, 415, "unsupported-media-type")

    @pytest.mark.parametrize("path", ["/things/" + new_id(), "/nowhere", "/word"])
    async def test_a_large_body_is_413(self, client: httpx.AsyncClient, path: str) -> None:
        answer = await client.post(path, content=b" " * 70_000, headers=JSON)
        assert_problem(answer, 413, "body-too-large")

    async def test_a_large_body_without_length_is_413(self, client: httpx.AsyncClient) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 1000

        answer = await client.post(thing(), content=chunks(), headers=JSON)
        assert_problem(answer, 413, "body-too-large")

    async def test_a_route_may_take_more(self, client: httpx.AsyncClient) -> None:
        numbers = [1] * 50_000
        assert (await client.post("/large", json=numbers)).json() == len(numbers)

    async def test_a_strict_model_still_takes_python_values(self) -> None:
        moment = datetime(2026, 11, 21, tzinfo=UTC)
        assert Body(number=1, at=moment, colour=Colour.RED).at == moment


class TestIdempotencyKey:
    async def test_is_required(self, client: httpx.AsyncClient) -> None:
        assert_problem(await client.post("/keyed"), 400, "idempotency-key-missing")

    @pytest.mark.parametrize("key", ["", " ", "a b", "x" * 129, "é", "a\x7fb"])
    async def test_is_visible_ascii(self, client: httpx.AsyncClient, key: str) -> None:
        headers = [(b"Idempotency-Key", key.encode("latin-1"))]
        answer = await client.post("/keyed", headers=headers)
        errors = assert_problem(answer, 422, "request-invalid")["errors"]
        assert errors[0]["pointer"] == "header/Idempotency-Key"

    async def test_reaches_the_route(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/keyed", headers={"Idempotency-Key": "x" * 128})
        assert answer.json() == {"key": "x" * 128, "wait": 2.0}


class TestWait:
    @pytest.mark.parametrize(
        ("prefer", "seconds"),
        [
            ("wait=0", 0),
            ("wait=7", 7),
            ("respond-async, wait=3", 3),
            ("Wait = 4; x=y", 4),
            ('wait="5"', 5),
            ("wait=10", 10),
            ("wait=999999", 10),  # more than we give
            ("wait=-1", 2),  # not understood: as if absent
            ("wait=1e9", 2),
            ("await=9", 2),
            ("return=minimal", 2),
            ("", 2),
        ],
    )
    async def test_prefer(self, client: httpx.AsyncClient, prefer: str, seconds: float) -> None:
        headers = {"Idempotency-Key": "k", "Prefer": prefer}
        assert (await client.post("/keyed", headers=headers)).json()["wait"] == seconds


class TestDeadline:
    async def test_no_answer_in_time_is_503(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/slow")
        assert_problem(answer, 503, "dependency-unavailable")
        assert answer.headers["retry-after"] == "1"

    async def test_the_wait_moves_the_deadline(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.web.edge.MARGIN_SECONDS", -1.95)
        assert (await client.get("/dawdle")).status_code == 503
        assert (await client.get("/dawdle", headers={"Prefer": "wait=3"})).status_code == 200

    async def test_a_route_may_have_longer(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.web.edge.MARGIN_SECONDS", -1.99)
        assert (await client.get("/patient", params={"seconds": 0.05})).status_code == 200

    async def test_a_body_that_never_comes_is_bounded(self, client: httpx.AsyncClient) -> None:
        async def never() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        headers = JSON | {"Prefer": "wait=0"}
        answer = await client.post(thing(), content=never(), headers=headers)
        assert_problem(answer, 503, "dependency-unavailable")


class TestLists:
    async def test_defaults(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/list")).json() == {"limit": 20, "after": None}

    async def test_a_cursor_comes_back_as_it_went(self, client: httpx.AsyncClient) -> None:
        params = {"limit": 100, "cursor": encode_cursor("2026", 7)}
        assert (await client.get("/list", params=params)).json()["after"] == ["2026", 7]

    @pytest.mark.parametrize(
        "cursor",
        [
            "x", "!!", "é", "a" * 513, "",
            encode_cursor("a"), encode_cursor("a", "b"), encode_cursor(1, 2),
            encode_cursor("a", True), encode_cursor("a", 2**63), encode_cursor("\x00", 1),
            encode_cursor("é", 1),
        ],
    )  # fmt: skip
    async def test_anything_else_is_422(self, client: httpx.AsyncClient, cursor: str) -> None:
        answer = await client.get("/list", params={"cursor": cursor})
        errors = assert_problem(answer, 422, "request-invalid")["errors"]
        assert errors[0]["pointer"] == "query/cursor"

    @pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "1.5", "9" * 30])
    async def test_the_limit_is_limited(self, client: httpx.AsyncClient, limit: str) -> None:
        answer = await client.get("/list", params={"limit": limit})
        assert_problem(answer, 422, "request-invalid")

    def test_next_cursor(self) -> None:
        rows = [(1, "a"), (2, "b"), (3, "c")]
        shown, cursor = next_cursor(rows, 2, lambda row: row)
        assert (list(shown), cursor) == (rows[:2], encode_cursor(2, "b"))
        assert decode_cursor(encode_cursor(2, "b"), int, str) == (2, "b")
        assert next_cursor(rows, 3, lambda row: row) == (rows, None)


class TestAnswers:
    async def test_ready_made_bytes_go_out_untouched(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/bytes")
        assert answer.content == b'{"number": 7}'
        assert answer.headers["cache-control"] == "public, max-age=1"
        assert answer.headers["content-type"] == "application/json"

    async def test_nothing_is_cached_or_sniffed_unless_said(
        self, client: httpx.AsyncClient
    ) -> None:
        headers = (await client.get("/word")).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"

    async def test_use_cases_come_from_the_state(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/word")).json() == "hello"


class TestLife:
    async def test_liveness_and_readiness_ask_only_the_process(
        self, client: httpx.AsyncClient, host: Host
    ) -> None:
        for name in ("live", "ready"):
            assert (await client.get(f"http://probe/health/{name}")).status_code == 200
        host.is_ready = False
        assert (await client.get("http://probe/health/ready")).status_code == 503
        assert (await client.get("http://probe/health/live")).status_code == 200
        host.is_alive = False
        assert (await client.get("http://probe/health/live")).status_code == 503

    async def test_before_the_start_requests_are_503(
        self, client: httpx.AsyncClient, host: Host
    ) -> None:
        host.is_open = False
        answer = await client.get("/word")
        assert_problem(answer, 503, "dependency-unavailable")
        assert answer.headers["retry-after"] == "1"

    async def test_while_draining_answers_close_their_connection(
        self, client: httpx.AsyncClient, host: Host
    ) -> None:
        assert "connection" not in (await client.get("/word")).headers
        host.is_draining = True
        answer = await client.get("/word")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")

    async def test_metrics_name_routes_not_paths(self, client: httpx.AsyncClient) -> None:
        await client.post(thing(), json={"number": 1})
        await client.get("/nowhere/secret")
        text = (await client.get("http://probe/metrics")).text
        assert 'handler="/api/v1/things/{thing_id}",method="POST",status="201"' in text
        assert "secret" not in text
        assert "stagedoor_ready" in text

    async def test_two_applications_count_apart(self, host: Host) -> None:
        for _ in range(2):
            create_web_app(host, title="Probe", description="", routers=[router])

    async def test_a_worker_has_no_routes(self, host: Host) -> None:
        host.serves_api = False
        app = create_web_app(host, title="Probe", description="", routers=[router])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
            assert (await client.get("/api/v1/word")).status_code == 404
            assert (await client.get("/health/live")).status_code == 200

    def test_lenient_routers_are_refused(self, host: Host) -> None:
        lenient = APIRouter()
        lenient.add_api_route("/x", word)
        with pytest.raises(TypeError, match=r"common\.web\.Router"):
            create_web_app(host, title="Probe", description="", routers=[lenient])


class TestAccessLog:
    async def test_one_line_a_request_without_its_query(self, client: httpx.AsyncClient) -> None:
        with capture_logs() as logs:
            await client.get("/list", params={"cursor": "secret"})
        (line,) = logs
        assert line["milliseconds"] >= 0
        assert {key: line[key] for key in ("event", "method", "path", "status", "log_level")} == {
            "event": "request",
            "method": "GET",
            "path": "/api/v1/list",
            "status": 422,
            "log_level": "info",
        }
        assert "secret" not in str(line)

    async def test_probes_are_not_worth_a_line(self, client: httpx.AsyncClient) -> None:
        with capture_logs() as logs:
            await client.get("http://probe/health/live")
        assert [line["log_level"] for line in logs] == ["debug"]


class TestDocs:
    @pytest.mark.parametrize(
        ("path", "content"),
        [
            ("", "swagger-ui-bundle.js"),
            ("/openapi.json", '"openapi":"3.1.0"'),
            ("/asyncapi.json", '"asyncapi":"3.0.0"'),
            ("/assets/swagger-ui-bundle.js", "SwaggerUIBundle"),
            ("/assets/swagger-ui.css", ".swagger-ui"),
        ],
    )
    async def test_everything_comes_from_here(
        self, client: httpx.AsyncClient, path: str, content: str
    ) -> None:
        answer = await client.get(f"http://probe/docs/probe{path}")
        assert answer.status_code == 200
        assert content in answer.text
        if not path:
            assert "cdn" not in answer.text
            assert "https://" not in answer.text

    async def test_no_other_file_is_served(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("http://probe/docs/probe/assets/..%2f__init__.py")
        assert_problem(answer, 404, "not-found")

    async def test_not_in_production(self, host: Host) -> None:
        host.documented = False
        app = create_web_app(host, title="Probe", description="", routers=[router])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
            for path in ("/docs/probe", "/docs/probe/openapi.json", "/openapi.json", "/docs"):
                assert_problem(await client.get(path), 404, "not-found")
