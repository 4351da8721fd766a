"""Lanes over several processes: the share of each, and what a death or a freeze costs."""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from common.broker import LANES, lane_queue
from testkit.waiting import eventually

WORKER = Path(__file__).with_name("lane_worker.py")


class Workers:
    """Starts worker processes and reads what they decided."""

    def __init__(self, settings, record):
        self.settings = settings
        self.record = record
        self.processes = []

    async def start(self, seconds_a_batch=0.01):
        settings = self.settings("reservation")
        environment = {
            key.upper(): str(value)
            for key, value in settings.model_dump(exclude_none=True).items()
            if key != "instance"
        }
        environment["BROKER_PASSWORD"] = settings.broker_password.get_secret_value()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(WORKER),
            str(self.record),
            str(seconds_a_batch),
            env={**os.environ, **environment},
            stdout=asyncio.subprocess.PIPE,
        )
        self.processes.append(process)
        async with asyncio.timeout(20):
            while b"ready" not in await process.stdout.readline():
                pass
        return process

    async def stop(self):
        for process in self.processes:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            async with asyncio.timeout(25):
                await process.wait()

    def effects(self):
        """What an inbox would let through, lane by lane: first occurrences, in order."""
        decided = {lane: {} for lane in range(LANES)}
        if self.record.exists():
            for line in self.record.read_text().splitlines():
                lane, number = line.split()
                decided[int(lane)].setdefault(int(number))
        return {lane: list(numbers) for lane, numbers in decided.items()}


@pytest.fixture
async def workers(settings, tmp_path):
    workers = Workers(settings, tmp_path / "decided")
    yield workers
    await workers.stop()


@pytest.fixture
def active(infrastructure, vhost):
    """``active()``: how many lanes each connection is the active consumer of."""
    stack = infrastructure.stack

    def count():
        with httpx.Client(
            base_url=f"http://127.0.0.1:{infrastructure.ports.rabbitmq_management}/api",
            auth=("test-admin", stack.credentials.test_admin),
            trust_env=False,
        ) as client:
            consumers = client.get(f"/consumers/{vhost}").json()
        return Counter(
            consumer["channel_details"]["connection_name"]
            for consumer in consumers
            if consumer["queue"]["name"].startswith("reservation.lane.")
            and consumer["active"]
            and consumer["channel_details"]  # the statistics lag behind a new consumer
        )

    return count


@asynccontextmanager
async def trickle(running, publish_lane, lanes, count):
    """Publish ``count`` requests to each lane meanwhile; on exit all are confirmed."""

    async def publish():
        for start in range(0, count, 20):
            for lane in lanes:
                await publish_lane(broker, range(start, start + 20), lane=lane)
            await asyncio.sleep(0.05)

    async with running("reservation", retry_seconds=5) as broker:
        task = asyncio.create_task(publish())
        yield
        await task


def complete(workers, lanes, count):
    effects = workers.effects()
    return all(len(effects[lane]) >= count for lane in lanes)


class TestShare:
    """Under traffic: a process learns that it became active by what it is given."""

    async def test_two_processes_that_start_together_share_the_lanes_equally(
        self, workers, active, running, publish_lane
    ):
        await asyncio.gather(workers.start(), workers.start())
        async with trickle(running, publish_lane, range(LANES), 200):
            await eventually(lambda: sorted(active().values()) == [LANES // 2] * 2, 30)

    async def test_a_latecomer_gets_its_share_and_order_holds_meanwhile(
        self, workers, active, running, publish_lane
    ):
        await workers.start()
        await eventually(lambda: list(active().values()) == [LANES], 20)
        lanes, count = range(LANES), 200
        async with trickle(running, publish_lane, lanes, count):
            await workers.start()
        await eventually(lambda: complete(workers, lanes, count), 20)
        await eventually(lambda: sorted(active().values()) == [LANES // 2] * 2, 30)
        assert workers.effects() == {lane: list(range(count)) for lane in lanes}

    async def test_the_survivor_takes_all(self, workers, active):
        first, _ = await asyncio.gather(workers.start(), workers.start())
        await eventually(lambda: sum(active().values()) == LANES, 20)
        first.kill()
        await eventually(lambda: list(active().values()) == [LANES], 20)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_the_other_process_goes_on_in_order(workers, running, publish_lane, blow, depth):
    lanes, count = (0, 5, 11), 400
    await asyncio.gather(workers.start(0.02), workers.start(0.02))
    async with trickle(running, publish_lane, lanes, count):
        await eventually(lambda: complete(workers, lanes, 40), 20)
        victim = random.choice(workers.processes)
        victim.send_signal(blow)
    await eventually(lambda: complete(workers, lanes, count), 40)
    if blow is signal.SIGSTOP:
        victim.send_signal(signal.SIGCONT)
        await asyncio.sleep(1)
    effects = workers.effects()
    for lane in lanes:
        assert effects[lane] == list(range(count))
        assert await depth(lane_queue(lane)) == 0
    assert await depth("reservation.parked") == 0


async def test_killed_again_and_again_nothing_is_lost_or_overtaken(workers, running, publish_lane):
    lanes, count = (2, 3), 600
    await asyncio.gather(workers.start(0.02), workers.start(0.02))
    async with trickle(running, publish_lane, lanes, count):
        for _ in range(4):
            victim = random.choice(
                [process for process in workers.processes if process.returncode is None]
            )
            victim.kill()
            await victim.wait()
            await workers.start(0.02)
    await eventually(lambda: complete(workers, lanes, count), 40)
    effects = workers.effects()
    assert {lane: effects[lane] for lane in lanes} == {lane: list(range(count)) for lane in lanes}
