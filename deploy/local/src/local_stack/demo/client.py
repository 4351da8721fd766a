"""The client app of one fan: what a phone would send through the gateway, and what it saw.

A request that timed out or met a 5xx is *unknown*: it is repeated with the same Idempotency-Key,
never assumed to have failed.
"""

import asyncio
import contextlib
import random
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx

from common.ids import new_id

API = "/api/v1"
MAX_ATTEMPTS = 8
MAX_RETRY_AFTER_SECONDS = 10.0
FOLLOW_DEADLINE_SECONDS = 30.0
TIMEOUT_SECONDS = 30.0


@dataclass
class Recorder:
    """What every client of one sale saw; shared by all fans."""

    latencies_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    problems: Counter[tuple[str, str]] = field(default_factory=Counter)
    transport_errors: int = 0
    replay_mismatches: list[str] = field(default_factory=list)

    @property
    def errors_5xx(self) -> int:
        """Answers of 500 and above, however they were retried afterwards."""
        return sum(
            count
            for (_, status), count in self.answers.items()
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR
        )

    def percentile(self, kind: str, share: float) -> float:
        """Latency in milliseconds that ``share`` of the calls of this kind stayed within."""
        values = sorted(self.latencies_ms.get(kind, ()))
        if not values:
            return 0.0
        return round(values[min(len(values) - 1, int(share * len(values)))], 1)


class GaveUpError(Exception):
    """The client tried its bounded number of times and has no answer."""


class Answer:
    """A response with the problem code at hand."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.content = response.content
        self.headers = response.headers
        self.body: dict[str, Any] = {}
        if response.content and "json" in response.headers.get("content-type", ""):
            decoded = response.json()
            if isinstance(decoded, dict):
                self.body = decoded

    @property
    def code(self) -> str:
        """The problem's stable code, or an empty string."""
        return str(self.body.get("code", ""))


class Lines:
    """The connections that all fans of one process share.

    Several small pools instead of a large one: httpx looks through its whole pool, and through
    all who wait for it, at every request. Nobody waits inside a pool: whoever finds no free
    connection waits here, before the clock of the request starts.
    """

    def __init__(self, gateway: str, *, pools: int = 24, connections_each: int = 8) -> None:
        limits = httpx.Limits(
            max_connections=connections_each, max_keepalive_connections=connections_each
        )
        context = ssl.create_default_context()  # made once: it costs some 30 ms
        self._pools = [
            httpx.AsyncClient(
                base_url=gateway, limits=limits, timeout=TIMEOUT_SECONDS, verify=context
            )
            for _ in range(pools)
        ]
        self._free: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        for pool in self._pools * connections_each:
            self._free.put_nowait(pool)

    @contextlib.asynccontextmanager
    async def line(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client with a free connection, for one request."""
        client = await self._free.get()
        try:
            yield client
        finally:
            self._free.put_nowait(client)

    async def close(self) -> None:
        """Hang up."""
        for pool in self._pools:
            await pool.aclose()


class FanClient:
    """Calls of one signed-in fan. Retries live here and nowhere else on the client's side."""

    def __init__(self, lines: Lines, recorder: Recorder, user_id: str, rng: random.Random) -> None:
        self._lines = lines
        self._recorder = recorder
        self._rng = rng
        self.user_id = user_id
        self._headers: dict[str, str] = {}

    async def sign_in(self) -> None:
        """Get a bearer token from the (fake) identity provider.

        Raises:
            GaveUpError: the issuer did not answer with a token.
        """
        answer = await self._call(
            "login", "POST", "/dev/login", json={"user_id": self.user_id, "roles": []}
        )
        if answer.status != HTTPStatus.OK:
            raise GaveUpError(f"login answered {answer.status}")
        self._headers = {"Authorization": f"Bearer {answer.body['access_token']}"}

    async def join(self, concert_id: str) -> Answer:
        """Take a place in line; asking again returns the same place."""
        return await self._call("join", "PUT", f"/queues/{concert_id}/ticket")

    async def poll(self, concert_id: str, ticket: str | None) -> Answer:
        """Heartbeat: where do I stand? ``ticket`` restores a place the server lost."""
        headers = {"Queue-Ticket": ticket} if ticket else {}
        return await self._call("poll", "GET", f"/queues/{concert_id}/ticket", headers=headers)

    async def leave(self, concert_id: str) -> Answer:
        """Give up the place, or the admission."""
        return await self._call("leave", "DELETE", f"/queues/{concert_id}/ticket")

    async def availability(self, performance_id: str) -> Answer:
        """What cannot be had now."""
        return await self._call(
            "availability", "GET", f"/performances/{performance_id}/availability"
        )

    async def reserve(self, pass_token: str, body: dict[str, Any], *, twice: bool) -> Answer:
        """Ask for seats and follow a pending answer to its end."""
        headers = {"Queue-Pass": pass_token}
        answer = await self._post_once("reserve", "/reservations", body, headers, twice=twice)
        return await self._follow(answer, pending="pending", headers=headers)

    async def cancel(self, reservation_id: str) -> Answer:
        """Cancel a hold, or a confirmed reservation (which is refunded)."""
        return await self._call("cancel", "DELETE", f"/reservations/{reservation_id}")

    async def reservation(self, reservation_id: str) -> Answer:
        """One of the fan's own reservations."""
        return await self._call("reservation", "GET", f"/reservations/{reservation_id}")

    async def get(self, path: str) -> Answer:
        """Any other resource of the fan's own, e.g. ``/wallet``."""
        return await self._call("get", "GET", path)

    async def charge(self, amount: int, *, twice: bool) -> Answer:
        """Put money into the wallet."""
        return await self._post_once(
            "charge", "/wallet/charges", {"amount": amount}, {}, twice=twice
        )

    async def pay(self, reservation_id: str, *, twice: bool) -> Answer:
        """Pay a hold and follow a pending answer to its end."""
        body = {"reservation_id": reservation_id}
        answer = await self._post_once("pay", "/payments", body, {}, twice=twice)
        return await self._follow(answer, pending="authorized", headers={})

    async def _post_once(
        self, kind: str, path: str, body: dict[str, Any], headers: dict[str, str], *, twice: bool
    ) -> Answer:
        """One effect, however often it is sent: a nervous fan's client sends it three times."""
        headers = headers | {"Idempotency-Key": new_id()}
        if not twice:
            return await self._call(kind, "POST", path, json=body, headers=headers)
        first, second = await asyncio.gather(
            *(self._call(kind, "POST", path, json=body, headers=headers) for _ in range(2))
        )
        answer = (
            first
            if first.status in (HTTPStatus.CREATED, HTTPStatus.ACCEPTED)
            or second.code.endswith("-progress")
            else second
        )
        if answer.status != HTTPStatus.ACCEPTED and not answer.code.endswith("-progress"):
            replay = await self._call(kind, "POST", path, json=body, headers=headers)
            if answer.status == HTTPStatus.CREATED and replay.content != answer.content:
                self._recorder.replay_mismatches.append(
                    f"{kind}: {answer.status} {answer.content!r} replayed as "
                    f"{replay.status} {replay.content!r}"
                )
        return answer

    async def _follow(self, answer: Answer, *, pending: str, headers: dict[str, str]) -> Answer:
        deadline = time.monotonic() + FOLLOW_DEADLINE_SECONDS
        location = answer.headers.get("location", "")
        while answer.status == HTTPStatus.ACCEPTED or (
            answer.status == HTTPStatus.OK and answer.body["state"] == pending
        ):
            if time.monotonic() > deadline:
                raise GaveUpError(
                    f"{location} stayed {pending} for {FOLLOW_DEADLINE_SECONDS:.0f} s"
                )
            await asyncio.sleep(self._rng.uniform(0.2, 0.6))
            path = location.removeprefix(API)
            answer = await self._call("follow", "GET", path, headers=headers)
        return answer

    async def _call(
        self,
        kind: str,
        method: str,
        path: str,
        *,
        json: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        for attempt in range(MAX_ATTEMPTS):
            try:
                async with self._lines.line() as http:
                    begun = time.perf_counter()
                    response = await http.request(
                        method, API + path, json=json, headers=self._headers | (headers or {})
                    )
            except httpx.TransportError:
                self._recorder.transport_errors += 1
                await asyncio.sleep(self._rng.uniform(0.1, 0.5) * (attempt + 1))
                continue
            self._recorder.latencies_ms[kind].append((time.perf_counter() - begun) * 1000)
            self._recorder.answers[kind, response.status_code] += 1
            answer = Answer(response)
            if answer.code:
                self._recorder.problems[kind, answer.code] += 1
            if not _worth_repeating(answer):
                return answer
            wait = float(answer.headers.get("retry-after", 1))
            await asyncio.sleep(min(wait, MAX_RETRY_AFTER_SECONDS) * self._rng.uniform(0.5, 1.0))
        raise GaveUpError(f"{method} {path}: no answer after {MAX_ATTEMPTS} attempts")


def _worth_repeating(answer: Answer) -> bool:
    """5xx and 429 say "later"; so does a payment that overtook the news of its hold."""
    if (
        answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or answer.status == HTTPStatus.TOO_MANY_REQUESTS
    ):
        return True
    return answer.code in {"reservation-unknown", "request-in-progress"}
