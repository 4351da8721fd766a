"""Whole processes on real servers: they start, wait, serve, drain and leave."""

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from common.ids import new_id
from common.settings import CommonSettings
from testkit import Bearer, TcpProxy, environment, eventually

SERVICE = Path(__file__).parent / "probe_service.py"
START_SECONDS = 20.0
EXIT_SECONDS = 25.0


@dataclass
class Running:
    """One process and a client of it."""

    process: Process
    client: httpx.AsyncClient
    port: int
    log: Path

    async def status(self, path: str) -> int:
        """The status of a GET, 0 when nobody answers."""
        try:
            return (await self.client.get(path)).status_code
        except httpx.TransportError:
            return 0

    async def ready(self) -> bool:
        return await self.status("/health/ready") == 200

    async def exited(self, within_seconds: float = EXIT_SECONDS) -> int:
        async with asyncio.timeout(within_seconds):
            return await self.process.wait()

    async def runs(self) -> list[str]:
        """Instances that ran the leased job, in order."""
        names: list[str] = (await self.client.get("/api/v1/runs")).json()
        return names

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


class Serve(Protocol):
    def __call__(
        self, *arguments: str, **overrides: object
    ) -> AbstractAsyncContextManager[Running]: ...


def name_of(running: Running) -> str:
    return f"{socket.gethostname()}-{running.process.pid}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def serve(probe_settings: CommonSettings, tmp_path: Path) -> Serve:
    """Run the probe service in a process of its own until the block ends."""

    @asynccontextmanager
    async def run(*arguments: str, **overrides: object) -> AsyncIterator[Running]:
        port, log = free_port(), tmp_path / f"{new_id()}.log"
        settings = environment(probe_settings) | {
            "HTTP_PORT": str(port),
            "DRAIN_SECONDS": "20",
            **{name.upper(): str(value) for name, value in overrides.items()},
        }
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(SERVICE), "serve", *arguments, env=settings, stderr=file
            )
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, timeout=15) as client:
            try:
                yield Running(process, client, port, log)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    return run


class TestStart:
    async def test_ready_means_started_with_the_database_s_time(self, serve: Serve) -> None:
        async with serve() as running:
            await eventually(running.ready, START_SECONDS)
            clocks = (await running.client.get("/api/v1/clocks")).json()
            assert clocks["synchronised"]
            assert clocks["off_by_seconds"] < 0.5

    async def test_waits_for_the_database_alive_but_not_ready(
        self, serve: Serve, probe_settings: CommonSettings
    ) -> None:
        async with TcpProxy(probe_settings.database_primary_port) as proxy:
            await proxy.refuse()
            async with serve(database_primary_port=proxy.port) as running:

                async def alive() -> bool:
                    return await running.status("/health/live") == 200

                await eventually(alive, START_SECONDS)
                assert not await running.ready()
                answer = await running.client.get("/api/v1/clocks")
                assert (answer.status_code, answer.json()["code"]) == (
                    503,
                    "dependency-unavailable",
                )
                assert answer.headers["retry-after"] == "1"
                await proxy.resume()
                await eventually(running.ready, START_SECONDS)
                assert await running.status("/api/v1/clocks") == 200

    async def test_starts_without_redis_and_broker(
        self, serve: Serve, probe_settings: CommonSettings, bearer: Bearer
    ) -> None:
        nowhere = free_port()
        overrides = {
            "redis_url": f"redis://127.0.0.1:{nowhere}/0",
            "broker_url": f"amqp://127.0.0.1:{nowhere}/x",
        }
        async with serve(**overrides) as running:
            await eventually(running.ready, START_SECONDS)
            answer = await running.client.get("/api/v1/redis")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["code"] == "dependency-unavailable"
            # A limit that cannot count lets everybody pass.
            limited = await running.client.get("/api/v1/limited", headers=bearer("fan"))
            assert limited.status_code == 200
            assert await running.ready()

    async def test_a_worker_works_and_an_api_does_not(self, serve: Serve) -> None:
        async with serve("--role", "api") as api, serve("--role", "worker") as worker:
            await eventually(api.ready, START_SECONDS)
            await eventually(worker.ready, START_SECONDS)
            assert await worker.status("/api/v1/runs") == 404

            async def worked() -> bool:
                return name_of(worker) in await api.runs()

            await eventually(worked, 10)  # a lease of another test's process may have to run out
            assert name_of(api) not in await api.runs()

    async def test_one_replica_at_a_time_runs_a_leased_job(self, serve: Serve) -> None:
        async with serve() as one, serve() as other:
            both = {name_of(one): one, name_of(other): other}
            for running in both.values():
                await eventually(running.ready, START_SECONDS)

            async def several_runs() -> list[str]:
                ours = [name for name in await one.runs() if name in both]
                return ours if len(ours) > 10 else []

            holder, *rest = await eventually(several_runs, 10)
            assert set(rest) == {holder}  # twenty times a second, and only one did it
            (heir,) = set(both) - {holder}
            both[holder].process.send_signal(signal.SIGTERM)

            async def inherited() -> bool:
                return heir in await both[heir].runs()

            await eventually(inherited, 10)
            assert await both[holder].exited() == 0


class TestRateLimit:
    async def test_counts_a_user_over_all_replicas(self, serve: Serve, bearer: Bearer) -> None:
        eager, other = bearer(new_id()), bearer(new_id())
        async with serve("--role", "api") as one, serve("--role", "api") as two:
            await eventually(one.ready, START_SECONDS)
            await eventually(two.ready, START_SECONDS)
            answers = [
                await running.client.get("/api/v1/limited", headers=eager)
                for running in (one, two, one, two)
            ]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
            assert answers[0].headers["ratelimit-policy"] == '"probe";q=3;w=60'
            assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == [
                "r=2",
                "r=1",
                "r=0",
                "r=0",
            ]
            refused = answers[3]
            assert refused.json()["code"] == "rate-limited"
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert (await one.client.get("/api/v1/limited", headers=other)).status_code == 200


class TestLeaving:
    async def test_sigterm_loses_no_request(self, serve: Serve) -> None:
        async with serve() as running:
            await eventually(running.ready, START_SECONDS)
            slow = asyncio.create_task(running.client.get("/api/v1/echo/slow?milliseconds=2500"))
            await eventually(lambda: running.process.returncode is None)

            async def draining() -> bool:
                return not await running.ready()

            await asyncio.sleep(0.1)  # the slow request is on its way
            running.process.send_signal(signal.SIGTERM)
            await eventually(draining)
            late = await running.client.get("/api/v1/echo/late")
            assert (late.status_code, late.headers["connection"]) == (200, "close")
            assert await running.status("/health/live") == 200
            assert (await slow).json() == "slow"
            assert await running.exited() == 0
            events = [line["event"] for line in running.lines()]
            assert events[-1] == "stopped"
            assert "draining" in events
            assert not [line for line in running.lines() if line["level"] in {"error", "critical"}]

    async def test_sigterm_while_waiting_for_the_database(
        self, serve: Serve, probe_settings: CommonSettings
    ) -> None:
        async with TcpProxy(probe_settings.database_primary_port) as proxy:
            await proxy.drop()
            async with serve(database_primary_port=proxy.port) as running:

                async def alive() -> bool:
                    return await running.status("/health/live") == 200

                await eventually(alive, START_SECONDS)
                running.process.send_signal(signal.SIGTERM)
                assert await running.exited() == 0

    async def test_a_request_that_never_ends_does_not_hold_up_the_exit(self, serve: Serve) -> None:
        async with serve(drain_seconds=8) as running:
            await eventually(running.ready, START_SECONDS)
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(b"POST /api/v1/echo/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nx")
            await writer.drain()
            running.process.send_signal(signal.SIGTERM)
            assert await running.exited(12) == 0
            writer.close()
            assert b"200" not in await reader.read()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> bytes:
    """One request on a kept-alive connection; the body of its answer."""
    await ask(writer, text)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    return await reader.readexactly(length)


async def ask(writer: asyncio.StreamWriter, text: str) -> None:
    path = f"/api/v1/echo/{text}?milliseconds=10"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await writer.drain()


class TestCancelledRequests:
    async def test_nobody_gets_another_s_answer(self, serve: Serve) -> None:
        """Clients hang up in the middle while others, with other answers, keep asking."""
        async with serve("--role", "api") as running:
            await eventually(running.ready, START_SECONDS)

            async def stays() -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
                for _ in range(20):
                    text = new_id()
                    assert await exchange(reader, writer, text) == f'"{text}"'.encode()
                writer.close()

            async def leaves() -> None:
                for _ in range(20):
                    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
                    await ask(writer, new_id())
                    writer.transport.abort()

            async with asyncio.timeout(60), asyncio.TaskGroup() as clients:
                for _ in range(10):
                    clients.create_task(stays())
                    clients.create_task(leaves())
            assert not [line for line in running.lines() if line["level"] == "error"]


class TestCommandLine:
    async def run(self, *arguments: str, env: dict[str, str]) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SERVICE), *arguments, env=env, stderr=PIPE, stdout=PIPE
        )
        out, err = await process.communicate()
        return process.returncode or 0, (out + err).decode()

    async def test_bad_settings_are_one_readable_line(self, probe_settings: CommonSettings) -> None:
        env = environment(probe_settings)
        secret = env.pop("DATABASE_PASSWORD")
        code, text = await self.run("serve", env=env | {"HTTP_PORT": "0"})
        assert code == 2
        assert text.count("\n") == 1
        assert text.startswith("probe-service: ")
        assert "DATABASE_PASSWORD: Field required" in text
        assert "HTTP_PORT" in text
        assert secret not in text

    async def test_an_unknown_command_is_bad_input(self, probe_settings: CommonSettings) -> None:
        code, text = await self.run("parked", "replay", env=environment(probe_settings))
        assert code == 2
        assert "--id" in text

    async def test_migrating_needs_its_own_account(self, probe_settings: CommonSettings) -> None:
        code, text = await self.run("migrate", env=environment(probe_settings))
        assert code == 1
        assert "DATABASE_MIGRATOR_USER" in text

    async def test_migrating_again_does_nothing(self, probe_settings: CommonSettings) -> None:
        env = environment(probe_settings)
        env |= {
            "DATABASE_MIGRATOR_USER": env["DATABASE_USER"],
            "DATABASE_MIGRATOR_PASSWORD": env["DATABASE_PASSWORD"],
        }
        code, text = await self.run("migrate", env=env)
        assert code == 0, text
        assert "migrated" in text

    async def test_an_empty_parking_queue(
        self, serve: Serve, probe_settings: CommonSettings
    ) -> None:
        env = environment(probe_settings)
        async with serve() as running:  # declares the queues
            await eventually(running.ready, START_SECONDS)
            assert await self.run("parked", "list", env=env) == (0, "")
            assert (await self.run("parked", "discard", "--all", env=env)) == (0, "discard: 0\n")
            code, _ = await self.run("parked", "replay", "--id", new_id(), env=env)
            assert code == 1  # there is no such message
