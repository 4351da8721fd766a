"""Stagedoor's invariants, checked over live stores: reading only, from one snapshot."""

from audit.checker import check, check_snapshot
from audit.facts import Facts, facts_of
from audit.report import judge
from audit.rule import QueryRule, Rule, Violation
from audit.rules import ALL_RULES
from audit.snapshot import SETTLE_SECONDS, Snapshot, Source, open_snapshot

__all__ = [
    "ALL_RULES",
    "SETTLE_SECONDS",
    "Facts",
    "QueryRule",
    "Rule",
    "Snapshot",
    "Source",
    "Violation",
    "check",
    "check_snapshot",
    "facts_of",
    "judge",
    "open_snapshot",
]
