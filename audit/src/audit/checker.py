"""Runs every rule over one snapshot."""

from collections.abc import Sequence

from audit.rule import Rule
from audit.rules import ALL_RULES
from audit.snapshot import SETTLE_SECONDS, Snapshot, Source, open_snapshot


async def check(
    source: Source, *, settle_seconds: int = SETTLE_SECONDS, rules: Sequence[Rule] = ALL_RULES
) -> dict[str, list[str]]:
    """Every rule's violations, in words, by the rule's name; an empty list is what we want.

    Raises:
        pymysql.err.MySQLError: the stores cannot be read.
    """
    async with open_snapshot(source, settle_seconds=settle_seconds) as snapshot:
        return await check_snapshot(snapshot, rules)


async def check_snapshot(
    snapshot: Snapshot, rules: Sequence[Rule] = ALL_RULES
) -> dict[str, list[str]]:
    """As :func:`check`, on a snapshot that is open already."""
    return {rule.name: [found.what for found in await rule.violations(snapshot)] for rule in rules}
