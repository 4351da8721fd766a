"""``python -m audit``: judge the live stores; exit 1 if anything is violated, 2 if unreadable."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pymysql.err import MySQLError
from rich.console import Console
from rich.table import Table

from audit.checker import check
from audit.rules import ALL_RULES
from audit.snapshot import SETTLE_SECONDS, Source

SHOWN = 5


class AuditSettings(BaseSettings):
    """Where the audit reads; from ``AUDIT_*`` variables or files in a secrets directory."""

    model_config = SettingsConfigDict(env_prefix="AUDIT_")

    host: str = "127.0.0.1"
    port: int
    user: str = "audit"
    password: SecretStr

    def source(self) -> Source:
        """As the snapshot wants it."""
        return Source(self.host, self.port, self.user, self.password)


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="audit", description=__doc__)
    parser.add_argument(
        "--settle-seconds",
        type=int,
        default=SETTLE_SECONDS,
        help="age at which news between services must have arrived (default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="counts a rule, as JSON")
    options = parser.parse_args(arguments)
    try:
        settings = AuditSettings()
    except ValidationError as reason:
        fields = ", ".join("AUDIT_" + str(error["loc"][0]).upper() for error in reason.errors())
        sys.stderr.write(f"audit: missing or wrong settings: {fields}\n")
        return 2
    return judge(settings.source(), settle_seconds=options.settle_seconds, as_json=options.json)


if __name__ == "__main__":
    raise SystemExit(main())
