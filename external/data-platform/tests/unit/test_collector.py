"""A batch that cannot be written is not passed over."""

from types import SimpleNamespace

import duckdb

from data_platform import collector
from data_platform.collector import Collector


class Failing:
    """A warehouse whose disk is full for a while."""

    def __init__(self, failures):
        self.failures = failures
        self.calls = 0
        self.kept = []

    def add(self, records):
        self.calls += 1
        if self.calls <= self.failures:
            raise duckdb.IOException("no space left")
        self.kept += records
        return len(records)


async def test_it_is_written_before_its_offsets_are_committed(monkeypatch):
    monkeypatch.setattr(collector, "FIRST_DELAY_SECONDS", 0.001)
    warehouse = Failing(3)
    kept_at_commit = []

    async def ack():
        kept_at_commit.append(len(warehouse.kept))

    raw = SimpleNamespace(topic="t", partition=0, offset=7, headers=(), value=b"{}")
    message = SimpleNamespace(raw_message=(raw,), ack=ack)
    await Collector(None, warehouse)._collect(message)
    assert warehouse.calls == 4
    assert kept_at_commit == [1]
