"""What a transaction says is published: once it is committed, in order, whoever dies."""

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common.database import Database, Transaction
from common.events import AdmissionEndCause, AdmissionEnded
from common.ids import new_id
from common.outbox import BROKER, STREAM, Outbox, channel
from common.redis import Bell, Redis
from common.relay import BATCH_CHARACTERS, OutboxRow, Relay
from common.settings import CommonSettings
from common.tracing import continued
from testkit import TcpProxy, environment, eventually

INSERT = (
    "INSERT INTO outbox (destination, event_id, source, type, exchange, routing_key, subject,"
    " payload, occurred_at) VALUES (%s, %s, 'probe', 'probed.v1', 'x', 'y', %s, '{}', NOW(6))"
)
CHILD = Path(__file__).parent / "relay_child.py"


def fresh_destination() -> str:
    return f"t{secrets.token_hex(6)}"


async def add(database: Database, destination: str, *subjects: str) -> None:
    rows = [(destination, new_id(), subject) for subject in subjects]
    await database.run(lambda tx: tx.execute_many(INSERT, rows))


async def waiting(database: Database, destination: str) -> int:
    async with database.primary() as session:
        sql = "SELECT COUNT(*) FROM outbox WHERE destination = %s"
        return int(await session.fetch_value(sql, (destination,)))


class Sink:
    """Confirms what it is given, or what it is told to."""

    def __init__(self) -> None:
        self.subjects: list[str] = []
        self.largest = 0
        self.calls = 0
        self.failing = False
        self.refused: set[str] = set()

    async def publish(self, rows: list[OutboxRow]) -> list[int]:
        self.calls += 1
        self.largest = max(self.largest, sum(len(row.payload) for row in rows))
        if self.failing:
            raise ConnectionError("the broker is away")
        accepted = [row for row in rows if row.subject not in self.refused]
        self.subjects += [row.subject for row in accepted]
        return [row.id for row in accepted]


@asynccontextmanager
async def relaying(
    settings: CommonSettings, destination: str, sink: Sink, **arguments: Any
) -> AsyncIterator[Relay]:
    relay = Relay(settings, destination, sink.publish, **arguments)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


class TestOutbox:
    def event(self) -> AdmissionEnded:
        return AdmissionEnded(
            pass_id=new_id(),
            concert_id=new_id(),
            user_id="fan",
            version=1,
            cause=AdmissionEndCause.LEFT,
            ended_at=datetime.now(UTC),
        )

    async def test_rows_carry_everything_the_message_needs(self, database: Database) -> None:
        woken: list[str] = []
        outbox = Outbox("probe", woken.append)
        first, second = self.event(), self.event()

        async def work(tx: Transaction) -> None:
            await outbox.add(tx, first, second)
            await outbox.add_stream(tx, first, type="t.v1", topic="topic.v1", key=first.concert_id)
            await outbox.add(tx)
            assert woken == []

        traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        with continued(traceparent):
            await database.run(work)
        assert woken == [BROKER, STREAM]
        async with database.primary() as session:
            sql = "SELECT * FROM outbox WHERE subject IN %s ORDER BY id"
            subjects = [first.pass_id, second.pass_id, first.concert_id]
            rows = await session.fetch_all(sql, (subjects,))
        assert [row["subject"] for row in rows] == subjects
        message, _, record = rows
        assert message["type"] == message["routing_key"] == "admission.ended.v1"
        assert message["exchange"] == "queue.events"
        assert message["source"] == "probe"
        assert message["message_key"] is None
        assert AdmissionEnded.model_validate_json(message["payload"]) == first
        assert message["traceparent"].split("-")[1] == traceparent.split("-")[1]
        assert abs((datetime.now(UTC) - message["occurred_at"]).total_seconds()) < 60
        assert (record["type"], record["exchange"]) == ("t.v1", "topic.v1")
        assert record["message_key"] == first.concert_id
        assert len({row["event_id"] for row in rows}) == 3

    async def test_nothing_without_a_commit(self, database: Database) -> None:
        woken: list[str] = []
        outbox, event = Outbox("probe", woken.append), self.event()

        async def work(tx: Transaction) -> None:
            await outbox.add(tx, event)
            raise LookupError

        with pytest.raises(LookupError):
            await database.run(work)
        assert woken == []
        async with database.primary() as session:
            sql = "SELECT COUNT(*) FROM outbox WHERE subject = %s"
            assert await session.fetch_value(sql, (event.pass_id,)) == 0


class TestRelay:
    async def test_publishes_in_order_and_deletes(
        self, database: Database, probe_settings: CommonSettings
    ) -> None:
        destination, sink = fresh_destination(), Sink()
        subjects = [str(number) for number in range(70)]
        await add(database, destination, *subjects[:50])
        async with relaying(probe_settings, destination, sink, batch_rows=20):
            await eventually(lambda: len(sink.subjects) == 50)
            await add(database, destination, *subjects[50:])
            await eventually(lambda: len(sink.subjects) == 70)
        assert sink.subjects == subjects
        assert await waiting(database, destination) == 0

    async def test_large_messages_go_a_few_at_a_time(
        self, database: Database, probe_settings: CommonSettings
    ) -> None:
        """Together they would meet their deadline, half confirmed, and all be sent again."""
        destination, sink = fresh_destination(), Sink()
        insert = INSERT.replace("'{}'", "%s")
        subjects = [str(number) for number in range(12)]
        sizes = [BATCH_CHARACTERS * 2, *[BATCH_CHARACTERS // 3] * 11]
        rows = [
            (destination, new_id(), subject, '"' + "x" * size + '"')
            for subject, size in zip(subjects, sizes, strict=True)
        ]
        await database.run(lambda tx: tx.execute_many(insert, rows))
        sink.refused = {"0", "4"}
        async with relaying(probe_settings, destination, sink):
            await eventually(lambda: len(sink.subjects) == 10)
            assert sink.subjects == [each for each in subjects if each not in sink.refused]
            sink.refused = set()
            await eventually(lambda: sorted(sink.subjects[10:]) == ["0", "4"], 10)
        assert sink.largest <= BATCH_CHARACTERS * 2 + 2
        assert await waiting(database, destination) == 0

    async def test_a_transaction_that_commits_late_is_not_skipped(
        self, database: Database, probe_settings: CommonSettings
    ) -> None:
        destination, sink = fresh_destination(), Sink()
        async with relaying(probe_settings, destination, sink):
            async with database.transaction() as late:
                await late.execute(INSERT, (destination, new_id(), "lower id"))
                await add(database, destination, "higher id")
                await eventually(lambda: sink.subjects == ["higher id"])
            await eventually(lambda: sink.subjects == ["higher id", "lower id"])

    async def test_a_ring_after_the_commit_wakes_it(
        self,
        database: Database,
        redis: Redis,
        probe_settings: CommonSettings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("common.relay.POLL_SECONDS", 30)
        destination, sink = fresh_destination(), Sink()
        name = channel(probe_settings.redis_prefix, destination)
        bell = Bell(redis)
        bell.start()
        async with relaying(probe_settings, destination, sink, redis=redis) as relay:
            await eventually(lambda: relay.active)

            async def listening() -> bool:
                return dict(await redis.pubsub_numsub(name)).get(name.encode()) == 1

            await eventually(listening)
            await asyncio.sleep(0.1)  # it looked once when it began to listen
            await add(database, destination, "silent")
            await asyncio.sleep(0.3)
            assert sink.subjects == []
            bell.ring(name)
            await eventually(lambda: sink.subjects == ["silent"], 1)
        await bell.stop()

    async def test_what_is_not_confirmed_stays(
        self, database: Database, probe_settings: CommonSettings
    ) -> None:
        destination, sink = fresh_destination(), Sink()
        sink.refused = {"b"}
        await add(database, destination, "a", "b", "c")
        async with relaying(probe_settings, destination, sink):
            await eventually(lambda: sink.calls > 1)
            assert sink.subjects == ["a", "c"]
            assert await waiting(database, destination) == 1
            sink.refused = set()
            await eventually(lambda: sink.subjects == ["a", "c", "b"])
        assert await waiting(database, destination) == 0

    async def test_a_failing_destination_backs_off_and_holds_back_no_other(
        self, database: Database, probe_settings: CommonSettings
    ) -> None:
        bad, good = fresh_destination(), fresh_destination()
        broken, sink = Sink(), Sink()
        broken.failing = True
        await add(database, bad, "one")
        async with relaying(probe_settings, bad, broken), relaying(probe_settings, good, sink):
            await eventually(lambda: broken.calls >= 1)
            began = time.monotonic()
            await add(database, good, "two")
            await eventually(lambda: sink.subjects == ["two"], 1)
            await asyncio.sleep(1.5 - (time.monotonic() - began))
            assert broken.calls <= 5  # a poll every 0.1 s would be 15
            broken.failing = False
            await eventually(lambda: broken.subjects == ["one"], 6)

    async def test_a_hanging_publish_has_a_deadline(
        self, database: Database, probe_settings: CommonSettings
    ) -> None:
        destination, calls = fresh_destination(), 0

        async def hang(rows: list[OutboxRow]) -> list[int]:
            nonlocal calls
            calls += 1
            if calls == 1:
                await asyncio.sleep(60)
            return [row.id for row in rows]

        await add(database, destination, "one")
        relay = Relay(probe_settings, destination, hang, deadline_seconds=0.2)
        await relay.start()
        await eventually(lambda: calls == 2)
        await relay.stop()
        assert await waiting(database, destination) == 0

    async def test_a_long_publish_keeps_the_lock(
        self, database: Database, probe_settings: CommonSettings
    ) -> None:
        """Whoever says nothing for 4 s is disconnected; the relay is only busy elsewhere."""
        destination, calls = fresh_destination(), 0

        async def slow(rows: list[OutboxRow]) -> list[int]:
            nonlocal calls
            calls += 1
            await asyncio.sleep(5)
            return [row.id for row in rows]

        await add(database, destination, "one")
        relay = Relay(probe_settings, destination, slow, deadline_seconds=8)
        await relay.start()
        try:
            await eventually(lambda: calls == 1)
            async with relaying(probe_settings, destination, Sink()) as rival:

                async def done() -> bool:
                    assert not rival.active
                    return await waiting(database, destination) == 0

                await eventually(done, 7)
            assert calls == 1
        finally:
            await relay.stop()

    async def test_of_two_one_is_active_and_the_other_follows_at_once(
        self, database: Database, probe_settings: CommonSettings
    ) -> None:
        destination, first, second = fresh_destination(), Sink(), Sink()
        async with relaying(probe_settings, destination, first) as one:
            await eventually(lambda: one.active)
            async with relaying(probe_settings, destination, second) as other:
                await add(database, destination, *"abc")
                await eventually(lambda: first.subjects == ["a", "b", "c"])
                assert not other.active
                await one.stop()
                await eventually(lambda: other.active, 1.5)
                await add(database, destination, "d")
                await eventually(lambda: second.subjects == ["d"])

    async def test_losing_the_database_for_a_while_loses_nothing(
        self, database: Database, probe_settings: CommonSettings
    ) -> None:
        destination, sink = fresh_destination(), Sink()
        async with TcpProxy(probe_settings.database_primary_port) as proxy:
            update = {"database_primary_port": proxy.port}
            settings = probe_settings.model_copy(update=update)
            async with relaying(settings, destination, sink) as relay:
                await eventually(lambda: relay.active)
                await proxy.refuse()
                await eventually(lambda: not relay.active)
                await add(database, destination, "meanwhile")
                await proxy.resume()
                await eventually(lambda: sink.subjects == ["meanwhile"], 8)

    async def test_a_silent_network_ends_the_lock(
        self, database: Database, probe_settings: CommonSettings
    ) -> None:
        destination, cut_off, sink = fresh_destination(), Sink(), Sink()
        async with TcpProxy(probe_settings.database_primary_port) as proxy:
            update = {"database_primary_port": proxy.port}
            settings = probe_settings.model_copy(update=update)
            async with relaying(settings, destination, cut_off) as relay:
                await eventually(lambda: relay.active)
                await proxy.drop()
                async with relaying(probe_settings, destination, sink):
                    await add(database, destination, "one")
                    await eventually(lambda: sink.subjects == ["one"], 8)
                assert not relay.active
                await proxy.cut()
        assert cut_off.subjects == []


@asynccontextmanager
async def child(
    settings: CommonSettings, destination: str, key: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(CHILD),
        destination,
        key,
        env=environment(settings),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        await process.communicate()


async def becomes_active(process: asyncio.subprocess.Process, within_seconds: float) -> None:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), within_seconds)
    assert line == b"active\n"


class TestTakeover:
    @pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
    async def test_nothing_is_lost_and_order_is_kept(
        self,
        database: Database,
        redis: Redis,
        probe_settings: CommonSettings,
        how: signal.Signals,
    ) -> None:
        destination = fresh_destination()
        key = f"{probe_settings.redis_prefix}published:{destination}"
        subjects = [str(number) for number in range(600)]

        async def published() -> list[str]:
            raw = await redis.lrange(key, 0, -1)
            return [item.decode() for item in raw]

        async with child(probe_settings, destination, key) as first:
            await becomes_active(first, 30)
            async with child(probe_settings, destination, key) as second:
                for start in range(0, 300, 10):
                    await add(database, destination, *subjects[start : start + 10])

                async def in_the_middle() -> bool:
                    return len(await published()) >= 105

                await eventually(in_the_middle, 20)
                os.kill(first.pid, how)
                for start in range(300, 600, 10):
                    await add(database, destination, *subjects[start : start + 10])
                await becomes_active(second, 20)

                async def all_out() -> bool:
                    return await waiting(database, destination) == 0

                await eventually(all_out, 20)
                if how is signal.SIGSTOP:
                    os.kill(first.pid, signal.SIGCONT)
                    await add(database, destination, "after")
                    subjects.append("after")
                    await eventually(all_out, 20)
                    await asyncio.sleep(0.5)  # the thawed one may repeat what it had in hand
                seen = await published()
        # Each for the first time, in order; a batch in hand may be repeated, which inboxes absorb.
        assert list(dict.fromkeys(seen)) == subjects
        assert len(seen) - len(subjects) <= 40
