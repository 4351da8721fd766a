"""The outermost ASGI layer: trace, deadline, access log, and no error without a problem body."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanKind
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import DependencyUnavailable, Problem
from common.logging import get_logger
from common.tracing import continued, current_traceparent
from common.web.dependencies import wait_seconds
from common.web.problems import (
    overloaded_problem,
    problem_response,
    standard_problem,
    unavailable_problem,
)
from common.web.requests import DEADLINE_SCOPE_KEY, HEADERS_SCOPE_KEY

if TYPE_CHECKING:
    from starlette.responses import Response

MARGIN_SECONDS = 0.9
"""What a request may take beyond its wait: no answer later than 3 s at the default wait."""

MOST_IN_FLIGHT = 1024
"""Requests under way in one process. More would only wait behind them until their deadlines, and
the work done for them be lost; a burst of a thousand joins still fits."""

_QUIET_PATHS = ("/health/", "/metrics")
_LONGEST_PATH = 200

log = get_logger("access")


def _header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


class Edge:
    """Wraps a whole application.

    Args:
        app: the application, its own error handling included.
        is_open: whether requests are served at all; until then, and after, they are answered 503.
        is_draining: whether answers should ask the client to open a new connection elsewhere.
    """

    def __init__(
        self, app: ASGIApp, *, is_open: Callable[[], bool], is_draining: Callable[[], bool]
    ) -> None:
        self._app = app
        self._is_open = is_open
        self._is_draining = is_draining
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with continued(_header(scope, b"traceparent"), "http request", SpanKind.SERVER):
            await _Exchange(self, scope, receive, send).serve()

    @property
    def is_draining(self) -> bool:
        """Whether the process is about to stop."""
        return self._is_draining()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, when it is open."""
        problem = self._refusal() if scope["path"].startswith("/api/") else None
        if problem is not None:
            await problem_response(problem)(scope, receive, send)
            return
        self._in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._in_flight -= 1

    def _refusal(self) -> Problem | None:
        if not self._is_open():
            return standard_problem(
                503, "the service is starting or stopping", retry_after_seconds=1
            )
        return overloaded_problem() if self._in_flight >= MOST_IN_FLIGHT else None


class _Exchange:
    """One request and its answer."""

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self._edge = edge
        self._scope = scope
        self._receive = receive
        self._send_on = send
        self._status = 0
        self._swallow = False
        self._disconnected = False
        self._receiving = False

    async def serve(self) -> None:
        """Answer within the deadline, whatever happens, and log it once."""
        started = time.perf_counter()
        try:
            await self._within_deadline()
        except asyncio.CancelledError:
            self._log(started, cancelled=True)
            raise
        self._log(started)

    async def _within_deadline(self) -> None:
        seconds = wait_seconds(_header(self._scope, b"prefer")) + MARGIN_SECONDS
        loop = asyncio.get_running_loop()
        begin = loop.time()
        problem: Problem
        try:
            async with asyncio.timeout(seconds) as timeout:
                self._scope[DEADLINE_SCOPE_KEY] = lambda more: timeout.reschedule(begin + more)
                await self._edge.answer(self._scope, self._receive_counted, self._send)
        except TimeoutError:
            problem = self._lateness()
            log.warning("deadline-exceeded", path=self._scope["path"], status=problem.status)
        except Problem as error:
            problem = error
        except DependencyUnavailable as error:
            problem = unavailable_problem(error)
        except Exception:  # the last line: nothing may escape without a problem body
            if self._disconnected:
                return
            log.exception("unhandled-error", path=self._scope["path"])
            problem = standard_problem(500)
        else:
            return
        if not self._status:
            await self._replace(problem_response(problem))

    def _lateness(self) -> Problem:
        if self._receiving:
            return standard_problem(408)
        return standard_problem(503, "the deadline has passed", retry_after_seconds=1)

    async def _receive_counted(self) -> Message:
        self._receiving = True
        message = await self._receive()
        self._receiving = False
        if message["type"] == "http.disconnect":
            self._disconnected = True
        return message

    async def _send(self, message: Message) -> None:
        if self._swallow:
            return
        if message["type"] == "http.response.start":
            if message["status"] == 413 and not _is_problem(message):  # noqa: PLR2004
                # Starlette's limiter answers in plain text when nobody read the body.
                self._swallow = True
                await self._replace(problem_response(standard_problem(413)))
                return
            self._status = message["status"]
            message = {**message, "headers": [*message["headers"], *self._extra(message)]}
        await self._send_on(message)

    def _extra(self, message: Message) -> list[tuple[bytes, bytes]]:
        extra = [(b"x-content-type-options", b"nosniff")]
        traceparent = current_traceparent()
        if traceparent:
            extra.append((b"traceparent", traceparent.encode()))
        for name, value in self._scope.get(HEADERS_SCOPE_KEY, {}).items():
            extra.append((name.lower().encode(), value.encode()))
        names = {key.lower() for key, _ in message["headers"]}
        if b"cache-control" not in names:
            extra.append((b"cache-control", b"no-store"))
        if self._edge.is_draining:
            extra.append((b"connection", b"close"))
        return extra

    async def _replace(self, response: "Response") -> None:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
                message = {**message, "headers": [*message["headers"], *self._extra(message)]}
            await self._send_on(message)

        await response(self._scope, self._receive, send)

    def _log(self, started: float, *, cancelled: bool = False) -> None:
        path = self._scope["path"]
        (log.debug if path.startswith(_QUIET_PATHS) else log.info)(
            "request",
            method=self._scope["method"],
            # Ids in paths are no secret; a query string may hold one.
            path=path[:_LONGEST_PATH],
            status=self._status or None,
            milliseconds=round((time.perf_counter() - started) * 1000, 1),
            cancelled=cancelled or self._disconnected,
        )


def _is_problem(message: Message) -> bool:
    return any(
        key.lower() == b"content-type" and value.startswith(b"application/problem+json")
        for key, value in message["headers"]
    )
