"""The verdict over the stores, for a person and for a machine."""

import asyncio
import json
import sys

from pymysql.err import MySQLError
from rich.console import Console
from rich.table import Table

from audit.checker import check
from audit.rules import ALL_RULES
from audit.snapshot import Source

SHOWN = 5


def report(found: dict[str, list[str]], console: Console) -> None:
    """A table of every rule; what failed with its meaning and the first findings."""
    table = Table(title="Invariants")
    table.add_column("rule")
    table.add_column("violations", justify="right")
    for name, what in found.items():
        table.add_row(name, f"[red]{len(what)}[/]" if what else "[green]0[/]")
    console.print(table)
    for rule in ALL_RULES:
        what = found.get(rule.name, [])
        if what:
            meaning = (rule.__doc__ or "").partition("\n")[0]
            console.print(f"[red]✗ {rule.name}[/]: {meaning}", highlight=False)
            for line in what[:SHOWN]:
                console.print(f"    {line}", highlight=False)


def judge(source: Source, *, settle_seconds: int, as_json: bool) -> int:
    """Check and report; the process's exit code."""
    try:
        found = asyncio.run(check(source, settle_seconds=settle_seconds))
    except (MySQLError, OSError, TimeoutError) as reason:
        sys.stderr.write(f"audit: the stores cannot be read: {reason}\n")
        return 2
    if as_json:
        counts = {name: len(what) for name, what in found.items()}
        sys.stdout.write(json.dumps(counts, indent=2) + "\n")
    else:
        report(found, Console())
    return 1 if any(found.values()) else 0
