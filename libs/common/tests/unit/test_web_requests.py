"""What may be asked, and the problem that answers everything else."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from common.ids import new_id
from common.web import RequestModel, decode_cursor, encode_cursor, next_cursor
from testkit import assert_problem


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
            ("POST", "/things/01A1FBE6-3A60-7625-AB91-9275B1D76002", 404, "not-found"),
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

    @pytest.mark.parametrize(
        "path", ["/things/01a1fbe6-3a60-7625-ab91-9276c813e59c", "/nowhere", "/word"]
    )
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

    def test_a_strict_model_still_takes_python_values(self, probe_body: type[RequestModel]) -> None:
        moment = datetime(2026, 11, 21, tzinfo=UTC)
        body: Any = probe_body.model_validate({"number": 1, "at": moment})
        assert body.at == moment


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
