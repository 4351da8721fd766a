"""What an invariant is: a class that reads one snapshot and names what breaks it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import ClassVar

from audit.snapshot import Snapshot

SHOWN_PER_RULE = 1_000
"""Violations kept per rule; a broken store must not fill the memory of its own report."""


@dataclass(frozen=True)
class Violation:
    """One thing that must not be, with the ids to look it up by."""

    rule: str
    what: str


class Rule(ABC):
    """An invariant of the design, checked by reading only.

    The docstring of each rule says what it means when the rule fails. A rule about more than one
    service judges only what is older than ``snapshot.settled_before``: between two services news
    is always on its way.
    """

    invariant: ClassVar[int]
    """Number of the statement in the design's list of what must always be true."""

    @property
    def name(self) -> str:
        """The rule's stable name in reports and metrics, e.g. ``one-live-reservation-a-seat``."""
        name = self.__class__.__name__
        return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")

    @abstractmethod
    def findings(self, snapshot: Snapshot) -> AsyncIterator[str]:
        """Everything that breaks the rule, in words with ids."""

    async def violations(self, snapshot: Snapshot) -> list[Violation]:
        """The findings, bounded."""
        found: list[Violation] = []
        async for what in self.findings(snapshot):
            found.append(Violation(self.name, what))
            if len(found) >= SHOWN_PER_RULE:
                break
        return found


class QueryRule(Rule):
    """A rule whose every result row is a violation."""

    sql: ClassVar[str]
    """Columns are shown by name; ``{queue}``, ``{concert}``, ``{reservation}`` and ``{payment}``
    are the schemas, ``{settled}`` the moment before which news must have arrived."""

    async def findings(self, snapshot: Snapshot) -> AsyncIterator[str]:
        """One finding a row."""
        for row in await snapshot.rows(self.sql):
            yield ", ".join(f"{column}={value}" for column, value in row.items())
