"""The gateway: its own errors, routes, fail-over, limits. Stand-ins take the services' ports."""

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from local_stack import Stack, gateway, servers

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def gated(stack: Stack) -> Stack:
    """The infrastructure and the gateway, no service behind it."""
    stack.start("gateway")
    return stack


@pytest.fixture
async def client(gated: Stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gated.url, timeout=20, trust_env=False) as opened:
        yield opened


class StandIn:
    """A tiny HTTP server that remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.answers = True

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head)
            if not self.answers:
                await reader.read()  # until the gateway gives up
                return
            body = b'{"ok":true}'
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[StandIn]:
    stand_in = StandIn()
    server = await asyncio.start_server(stand_in.handle, "127.0.0.1", port)
    try:
        yield stand_in
    finally:
        server.close()
        await server.wait_closed()


async def until_reached(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """An earlier test may have taught nginx that the service is down; it forgets within 1 s."""
    async with asyncio.timeout(5):
        while (answer := await client.get(path)).status_code == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return answer


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["title"]
    assert answer.headers["x-request-id"] == problem["request_id"]


def test_nginx_accepts_the_configuration(stack: Stack) -> None:
    done = subprocess.run(
        [
            servers.program("nginx"),
            "-t",
            "-q",
            "-e",
            str(stack.layout.logs / "gateway-error.log"),
            "-p",
            str(stack.layout.configuration / "gateway"),
            "-c",
            str(gateway.configuration_file(stack.layout)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/metrics", 404, "not-found"),
        ("GET", "/health/ready", 404, "not-found"),
        ("GET", "/health/live", 404, "not-found"),
        ("GET", "/api/v1/queuesx", 404, "not-found"),
        ("GET", "/api/v1/admin/dashboard/x", 404, "not-found"),
        ("GET", "/.problem/404", 404, "not-found"),
        ("PATCH", "/api/v1/queues", 405, "method-not-allowed"),
        ("TRACE", "/api/v1/queues", 405, "method-not-allowed"),
        ("OPTIONS", "/nothing", 405, "method-not-allowed"),
        ("POST", "/docs", 405, "method-not-allowed"),
        ("GET", "/api/v1/concerts/" + "x" * 9000, 414, "uri-too-long"),
    ],
)
async def test_its_own_errors_are_problems(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    assert_problem(await client.request(method, path), status, code)


async def test_bodies_and_headers_have_a_limit(client: httpx.AsyncClient) -> None:
    big = await client.post("/api/v1/reservations", content=b"x" * 70_000)
    assert_problem(big, 413, "body-too-large")
    long = await client.get("/api/v1/concerts", headers={"x": "y" * 20_000})
    assert_problem(long, 431, "headers-too-large")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        # Request smuggling: two lengths, or a coding nobody here speaks.
        (
            (
                b"POST /api/v1/wallet HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
        (b"POST /api/v1/wallet HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
def test_what_is_no_proper_request_is_a_problem_too(gated: Stack, sent: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", gated.ports.gateway), timeout=5) as raw:
        raw.sendall(sent)
        answer = b""
        while chunk := raw.recv(4096):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-type: application/problem+json" in head.lower()
    assert json.loads(body)["status"] == status


async def test_no_replica_is_503_and_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    for path in ("/api/v1/queues/x", "/api/v1/concerts", "/api/v1/payments", "/api/v1/dev/login"):
        answer = await client.get(path)
        assert_problem(answer, 503, "service-unavailable")
        assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/api/v1/queues/x/ticket", "queue"),
        ("/api/v1/admin/queues/x", "queue"),
        ("/api/v1/admin/dashboard/queues", "queue"),
        ("/docs/queue", "queue"),
        ("/api/v1/concerts", "concert"),
        ("/api/v1/performances/x/seats", "concert"),
        ("/api/v1/admin/concerts", "concert"),
        ("/api/v1/admin/performances/x", "concert"),
        ("/api/v1/admin/dashboard", "concert"),
        ("/docs/concert/openapi.json", "concert"),
        ("/api/v1/reservations/x", "reservation"),
        ("/api/v1/admin/dashboard/reservations", "reservation"),
        ("/api/v1/wallet/charges", "payment"),
        ("/api/v1/payments", "payment"),
        ("/api/v1/admin/dashboard/payments", "payment"),
    ],
)
async def test_every_path_reaches_its_service(
    gated: Stack, client: httpx.AsyncClient, path: str, service: str
) -> None:
    async with (
        listening(gated.ports.replica(service, 1)) as one,
        listening(gated.ports.replica(service, 2)) as two,
    ):
        answer = await until_reached(client, path + "?a=b")
        assert answer.status_code == 200
        (request,) = one.requests + two.requests
        assert request.startswith(f"GET {path}?a=b HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("path", ["/api/v1/dev/login", "/.well-known/jwks.json"])
async def test_the_issuer_is_reached(gated: Stack, client: httpx.AsyncClient, path: str) -> None:
    async with listening(gated.ports.of("identity-provider")) as issuer:
        assert (await until_reached(client, path)).status_code == 200
        assert len(issuer.requests) == 1


async def test_trace_and_trusted_headers(gated: Stack, client: httpx.AsyncClient) -> None:
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with (
        listening(gated.ports.replica("payment", 1)) as one,
        listening(gated.ports.replica("payment", 2)) as two,
    ):
        await until_reached(client, "/api/v1/wallet")
        for header in (given, "nonsense"):
            await client.get(
                "/api/v1/wallet",
                headers={"traceparent": header, "X-Forwarded-For": "6.6.6.6", "Forwarded": "x"},
            )
        answer = await client.get("/api/v1/wallet")
    requests = [request.decode() for request in one.requests + two.requests]
    assert sum(f"traceparent: {given}\r\n" in request for request in requests) == 1
    assert not [request for request in requests if "nonsense" in request]
    assert not [request for request in requests if "6.6.6.6" in request]
    assert not [request for request in requests if "Forwarded: x" in request]
    assert all("X-Forwarded-For: 127.0.0.1\r\n" in request for request in requests)
    # A trace that starts here carries the request's id.
    trace = answer.headers["x-request-id"]
    assert [request for request in requests if f"traceparent: 00-{trace}-" in request]


async def test_a_dead_replica_is_passed_over(gated: Stack, client: httpx.AsyncClient) -> None:
    async with listening(gated.ports.replica("reservation", 2)) as alive:
        await until_reached(client, "/api/v1/reservations")
        alive.requests.clear()
        for _ in range(10):
            answer = await client.post("/api/v1/reservations", json={})
            assert answer.status_code == 200
        assert len(alive.requests) == 10


async def test_a_silent_replica_costs_a_reader_one_try_and_a_writer_no_repetition(
    gated: Stack, client: httpx.AsyncClient
) -> None:
    async with (
        listening(gated.ports.replica("queue", 1)) as silent,
        listening(gated.ports.replica("queue", 2)) as alive,
    ):
        await until_reached(client, "/api/v1/queues/x")
        silent.answers = False
        answers = await asyncio.gather(*(client.get("/api/v1/queues/x") for _ in range(2)))
        assert [answer.status_code for answer in answers] == [200, 200]
        assert silent.requests
        alive.answers = False
        posted = await client.post("/api/v1/queues/x")
        assert_problem(posted, 504, "service-timeout")
        assert posted.headers["retry-after"] == "1"
        sent = [r for r in silent.requests + alive.requests if r.startswith(b"POST")]
        assert len(sent) == 1


async def test_an_address_that_asks_too_often_is_told_so(own_stack: Stack) -> None:
    limited = Stack(
        own_stack.name, limits=gateway.Limits(requests_per_second=2, burst=3, connections=100)
    )
    limited.up(infrastructure_only=True)
    limited.restart("gateway")
    try:
        async with httpx.AsyncClient(base_url=limited.url, trust_env=False) as client:
            answers = [await client.get("/docs") for _ in range(10)]
            refused = [answer for answer in answers if answer.status_code == 429]
            assert 4 <= len(refused) <= 7
            assert_problem(refused[0], 429, "too-many-requests")
            assert refused[0].headers["retry-after"] == "1"
            assert refused[0].headers["ratelimit-policy"] == '"address";q=2;w=1'
            assert refused[0].headers["ratelimit"] == '"address";r=0;t=1'
    finally:
        own_stack.up(infrastructure_only=True)
        own_stack.restart("gateway")


async def test_the_documentation_page_links_every_service(client: httpx.AsyncClient) -> None:
    page = await client.get("/", follow_redirects=True)
    assert page.url.path == "/docs"
    assert page.headers["content-type"] == "text/html"
    for service in ("queue", "concert", "reservation", "payment"):
        for document in ("", "/openapi.json", "/asyncapi.json"):
            assert f'href="/docs/{service}{document}"' in page.text
    assert (await client.get("/health")).json() == {"status": "ok"}
