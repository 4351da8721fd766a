"""``python -m local_stack.demo``: a whole on-sale on the real stack, with a verdict.

Exit code 0: every promise was kept; 1: one was broken; 2: it could not be run.
"""

import argparse
import asyncio
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
from rich.console import Console

from audit import check_snapshot, facts_of, open_snapshot
from local_stack import Stack, StackError
from local_stack.demo.plan import MOST_SEATS, seating_plan
from local_stack.demo.progress import SaleProgress
from local_stack.demo.report import Report, picture, show
from local_stack.demo.sale import Plan, SaleRun
from local_stack.verify import source_of

MOST_FANS = 20_000
"""More than one process can play on a small machine."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    options = _parse(arguments)
    console = Console()
    stack = Stack(options.stack)
    try:
        stack.up(report=lambda line: console.print(f"[green]✓[/] {line}", highlight=False))
        report = asyncio.run(_sell(stack, options, console))
    except (StackError, httpx.HTTPError, TimeoutError) as reason:
        sys.stderr.write(f"demo: {str(reason) or reason.__class__.__name__}\n")
        return 2
    path = stack.directory / "report.json"
    report.write(path)
    console.print(f"\nThe stack stays up at [bold]{stack.url}[/] (API under /api/v1, /docs).")
    console.print(f"Report: {path.relative_to(stack.layout.root)}. Stop it with: make down")
    return 1 if report.failures() else 0


async def _sell(stack: Stack, options: argparse.Namespace, console: Console) -> Report:
    plan, prices = seating_plan(options.seats)
    run = SaleRun(
        stack.url,
        f"http://127.0.0.1:{stack.ports.of('data-platform')}",
        Plan(options.fans, options.seats, plan, prices, options.seed),
    )
    console.print(
        f"\n{options.fans:,} fans, {options.seats:,} seats, seed {options.seed}", highlight=False
    )
    async with SaleProgress(run, console).shown():
        await run.run()
        async with open_snapshot(source_of(stack), settle_seconds=0) as snapshot:
            found = await check_snapshot(snapshot)
            facts = await facts_of(snapshot, run.sale.concert_id)
    report = Report.of(run, facts, {name: len(what) for name, what in found.items()})
    for name, what in found.items():
        for line in what[:3]:
            console.print(f"[red]{name}[/]: {line}", highlight=False)
    show(report, run, console)
    if options.picture:
        options.picture.write_text(picture(report, run))
    return report


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description="A whole on-sale, with a verdict.")
    parser.add_argument("--fans", type=_between(1, MOST_FANS), default=1_000)
    parser.add_argument("--seats", type=_between(1, MOST_SEATS), default=400)
    parser.add_argument("--stack", default="demo", help="name of the stack to use")
    parser.add_argument(
        "--seed",
        type=int,
        default=secrets.randbelow(1_000_000),
        help="repeats the habits of an earlier run",
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="also draw the verdict, as an SVG"
    )
    return parser.parse_args(arguments)


class _between:  # noqa: N801  # read as a word where it is used: type=_between(1, 9)
    """A whole number within limits, as an argparse type."""

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most

    def __call__(self, text: str) -> int:
        value = int(text)
        if not self._least <= value <= self._most:
            raise argparse.ArgumentTypeError(f"must be from {self._least} to {self._most}")
        return value

    def __repr__(self) -> str:
        return "whole number"


if __name__ == "__main__":
    raise SystemExit(main())
