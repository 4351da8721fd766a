"""The verdict over the stores, for a person and for a machine."""

import asyncio
import json
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
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


def write_metrics(found: dict[str, list[str]], path: Path) -> None:
    """One time series a rule, for the node exporter's textfile collector; replaces the file whole.

    The moment of writing is one too: an audit that no longer runs must not look like a clean one.
    """
    registry = CollectorRegistry()
    violations = Gauge(
        "stagedoor_invariant_violations",
        "What breaks an invariant of the design",
        ["invariant", "rule"],
        registry=registry,
    )
    for rule in ALL_RULES:
        violations.labels(str(rule.invariant), rule.name).set(len(found.get(rule.name, [])))
    finished = Gauge(
        "stagedoor_audit_finished_timestamp_seconds", "When this was judged", registry=registry
    )
    finished.set_to_current_time()
    write_to_textfile(str(path), registry)


def judge(
    source: Source, *, settle_seconds: int, as_json: bool, metrics: Path | None = None
) -> int:
    """Check and report; the process's exit code.

    Args:
        source: where to read.
        settle_seconds: age at which news between services must have arrived.
        as_json: counts a rule, instead of a table.
        metrics: also written there. Untouched when the stores cannot be read.
    """
    try:
        found = asyncio.run(check(source, settle_seconds=settle_seconds))
    except (MySQLError, OSError, TimeoutError) as reason:
        sys.stderr.write(f"audit: the stores cannot be read: {reason}\n")
        return 2
    if metrics is not None:
        write_metrics(found, metrics)
    if as_json:
        counts = {name: len(what) for name, what in found.items()}
        sys.stdout.write(json.dumps(counts, indent=2) + "\n")
    else:
        report(found, Console())
    return 1 if any(found.values()) else 0
