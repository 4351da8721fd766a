"""Deadlines, life and death, headers, logs and documentation of an application."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from structlog.testing import capture_logs

from common.ids import new_id
from common.web import (
    Router,
    create_web_app,
)
from testkit import assert_problem


def thing() -> str:
    return f"/things/{new_id()}"


JSON = {"Content-Type": "application/json"}


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
        assert_problem(answer, 408, "request-timeout")


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
        self, client: httpx.AsyncClient, host: Any
    ) -> None:
        for name in ("live", "ready"):
            assert (await client.get(f"http://probe/health/{name}")).status_code == 200
        host.is_ready = False
        assert (await client.get("http://probe/health/ready")).status_code == 503
        assert (await client.get("http://probe/health/live")).status_code == 200
        host.is_alive = False
        assert (await client.get("http://probe/health/live")).status_code == 503

    async def test_before_the_start_requests_are_503(
        self, client: httpx.AsyncClient, host: Any
    ) -> None:
        host.is_open = False
        answer = await client.get("/word")
        assert_problem(answer, 503, "dependency-unavailable")
        assert answer.headers["retry-after"] == "1"

    async def test_more_than_can_be_done_is_refused_at_once(
        self, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.web.edge.MOST_IN_FLIGHT", 5)
        answers = await asyncio.gather(*(client.get("/dawdle") for _ in range(20)))
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [503] * 15
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert_problem(refused, 503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert (await client.get("http://probe/health/live")).status_code == 200
        assert (await client.get("/dawdle")).status_code == 200  # the places were given back

    async def test_while_draining_answers_close_their_connection(
        self, client: httpx.AsyncClient, host: Any
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

    async def test_two_applications_count_apart(self, host: Any, probe_router: Router) -> None:
        for _ in range(2):
            create_web_app(host, title="Probe", description="", routers=[probe_router])

    async def test_a_worker_has_no_routes(self, host: Any, probe_router: Router) -> None:
        host.serves_api = False
        app = create_web_app(host, title="Probe", description="", routers=[probe_router])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
            assert (await client.get("/api/v1/word")).status_code == 404
            assert (await client.get("/health/live")).status_code == 200

    def test_lenient_routers_are_refused(self, host: Any) -> None:
        lenient = APIRouter()
        lenient.add_api_route("/x", lambda: None)
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

    async def test_not_in_production(self, host: Any, probe_router: Router) -> None:
        host.documented = False
        app = create_web_app(host, title="Probe", description="", routers=[probe_router])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
            for path in ("/docs/probe", "/docs/probe/openapi.json", "/openapi.json", "/docs"):
                assert_problem(await client.get(path), 404, "not-found")
