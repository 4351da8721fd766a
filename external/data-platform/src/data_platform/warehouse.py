"""The analytic database: every payment fact once, and what can be asked of it."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import duckdb

from common.envelope import Envelope
from common.events import PaymentRecord

SUCCEEDED = "payment.succeeded.v1"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (
    event_id VARCHAR PRIMARY KEY,
    type VARCHAR NOT NULL,
    payment_id VARCHAR NOT NULL,
    concert_id VARCHAR NOT NULL,
    performance_id VARCHAR NOT NULL,
    seats INTEGER NOT NULL,
    amount BIGINT NOT NULL,
    currency VARCHAR NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL
);
CREATE TABLE IF NOT EXISTS unreadable (
    origin VARCHAR PRIMARY KEY,
    reason VARCHAR NOT NULL,
    value BLOB NOT NULL
);
"""
_FACT = "INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_UNREADABLE = "INSERT INTO unreadable VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_FIGURES = f"""
    CAST(SUM(IF(type = '{SUCCEEDED}', amount, -amount)) AS BIGINT) AS revenue,
    CAST(SUM(IF(type = '{SUCCEEDED}', seats, -seats)) AS BIGINT) AS seats,
    COUNT(*) FILTER (type = '{SUCCEEDED}') AS payments,
    COUNT(*) FILTER (type <> '{SUCCEEDED}') AS refunds
"""


class Dimension(StrEnum):
    """What revenue can be split by."""

    CONCERT = "concert"
    PERFORMANCE = "performance"
    MINUTE = "minute"


_KEYS = {
    Dimension.CONCERT: "concert_id",
    Dimension.PERFORMANCE: "performance_id",
    Dimension.MINUTE: "strftime(date_trunc('minute', occurred_at), '%Y-%m-%dT%H:%M:00Z')",
}
_NAMES = {
    Dimension.CONCERT: "concert_id",
    Dimension.PERFORMANCE: "performance_id",
    Dimension.MINUTE: "minute",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One record of the topic that could be read."""

    envelope: Envelope
    record: PaymentRecord


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One record that could not; kept for a person to look at."""

    origin: str
    """``topic/partition/offset``."""
    reason: str
    value: bytes


class Warehouse:
    """One file, one writer. Calls block: run them in a thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = duckdb.connect(str(path))
        self._database.execute("SET TimeZone = 'UTC'")
        self._database.execute(_SCHEMA)

    def close(self) -> None:
        """Write everything and let go of the file."""
        with self._lock:
            self._database.close()

    def add(self, records: Sequence[Fact | Unreadable]) -> int:
        """Keep records durably, each once; count those that were new facts."""
        facts = [_row(one) for one in records if isinstance(one, Fact)]
        unreadable = [
            (one.origin, one.reason, one.value) for one in records if isinstance(one, Unreadable)
        ]
        with self._lock:
            before = self._count()
            self._database.begin()
            try:
                if facts:
                    self._database.executemany(_FACT, facts)
                if unreadable:
                    self._database.executemany(_UNREADABLE, unreadable)
                self._database.commit()
            except BaseException:
                self._database.rollback()
                raise
            return self._count() - before

    def revenue(self, by: Dimension) -> list[dict[str, Any]]:
        """Revenue and seats, refunds taken off, with the number of payments and refunds."""
        key, name = _KEYS[by], _NAMES[by]
        return self._rows(
            f"SELECT {key} AS {name}, {_FIGURES} FROM facts GROUP BY 1 ORDER BY 1"  # noqa: S608 - constants
        )

    def totals(self) -> dict[str, int]:
        """The same figures over everything; zeros when there is nothing yet."""
        (row,) = self._rows(f"SELECT {_FIGURES} FROM facts")  # noqa: S608 - constants
        (unreadable,) = self._rows("SELECT COUNT(*) AS unreadable FROM unreadable")
        return {name: value or 0 for name, value in (row | unreadable).items()}

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        with self._lock:
            found = self._database.execute(sql)
            names = [column[0] for column in found.description or ()]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def _count(self) -> int:
        row = self._database.execute("SELECT COUNT(*) FROM facts").fetchone()
        return int(row[0]) if row else 0


def _row(fact: Fact) -> tuple[object, ...]:
    record = fact.record
    return (
        fact.envelope.id,
        record.type,
        record.payment_id,
        record.concert_id,
        record.performance_id,
        len(record.seat_ids),
        record.amount.amount,
        record.amount.currency,
        record.occurred_at,
    )
