"""The verdict on one sale: for a machine as JSON, for a person as a table and a picture."""

import io
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from audit import Facts
from local_stack.demo.sale import SaleRun

LATENCIES = ("join", "poll", "reserve", "pay")
SPARK = " ▁▂▃▄▅▆▇█"
PICTURE_WIDTH = 72
PICTURE_COLUMNS = 100
SHOWN_SURPRISES = 10


@dataclass(frozen=True)
class Report:
    """What ``report.json`` holds; from the stores, the data platform and the clients."""

    fans: int
    seats: int
    sold: int
    double_sold: int
    queue_order_inversions: int
    max_inside: int
    max_active: int
    holds_expired: int
    payments_succeeded: int
    payments_refunded: int
    data_platform_payments: int
    invariants: dict[str, int]
    seconds: float
    latency_ms: dict[str, dict[str, float]]
    errors_5xx: int
    seed: int
    outcomes: dict[str, int]
    replay_mismatches: int
    unexpected: list[str]

    @classmethod
    def of(cls, run: SaleRun, facts: Facts, invariants: dict[str, int]) -> "Report":
        """Put the figures of a finished run together."""
        recorder = run.recorder
        return cls(
            fans=run.plan.fans,
            seats=run.plan.seats,
            sold=facts.seats_sold,
            double_sold=max(facts.double_sold, len(run.sale.double_sold)),
            queue_order_inversions=facts.queue_order_inversions,
            max_inside=facts.max_inside,
            max_active=run.plan.max_active,
            holds_expired=facts.holds_expired,
            payments_succeeded=facts.payments_succeeded,
            payments_refunded=facts.payments_refunded,
            data_platform_payments=run.figures.data_platform_payments,
            invariants=invariants,
            seconds=round(run.seconds, 1),
            latency_ms={
                kind: {
                    "p50": recorder.percentile(kind, 0.5),
                    "p99": recorder.percentile(kind, 0.99),
                }
                for kind in LATENCIES
            },
            errors_5xx=recorder.errors_5xx,
            seed=run.plan.seed,
            outcomes=dict(sorted(run.sale.outcomes.items())),
            replay_mismatches=len(recorder.replay_mismatches),
            unexpected=[*run.sale.unexpected, *recorder.replay_mismatches],
        )

    def failures(self) -> list[str]:
        """Every promise this sale broke, in words; empty means it may be believed."""
        wrong = [
            f"invariant {name}: {count} violations"
            for name, count in self.invariants.items()
            if count
        ]
        if self.double_sold:
            wrong.append(f"{self.double_sold} seats sold twice")
        if self.queue_order_inversions:
            wrong.append(f"{self.queue_order_inversions} fans admitted out of order")
        if self.max_inside > self.max_active:
            wrong.append(f"{self.max_inside} inside where {self.max_active} may be")
        if self.data_platform_payments != self.payments_succeeded:
            wrong.append(
                f"the data platform has {self.data_platform_payments} payments, "
                f"{self.payments_succeeded} succeeded"
            )
        if self.replay_mismatches:
            wrong.append(f"{self.replay_mismatches} repeated requests got another answer")
        return wrong

    def write(self, path: Path) -> None:
        """As JSON, for machines."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def show(report: Report, run: SaleRun, console: Console) -> None:
    """The verdict as a person reads it."""
    table = Table(title="One sale, as it went", show_header=False)
    table.add_column(justify="right", style="bold")
    table.add_column()
    for row in _rows(report):
        table.add_row(*row)
    console.print(table)
    history = run.figures.history
    lines = {
        "in line": [waiting for _, waiting, _, _ in history],
        "inside": [inside for _, _, inside, _ in history],
        "sold": [sold for _, _, _, sold in history],
    }
    for name, values in lines.items():
        console.print(f"{name:>8} {sparkline(values)} {max(values, default=0):,}", highlight=False)
    _show_invariants(report, console)
    for surprise in report.unexpected[:SHOWN_SURPRISES]:
        console.print(f"[yellow]unexpected:[/] {surprise}", highlight=False)
    failures = report.failures()
    for failure in failures:
        console.print(f"[red]✗[/] {failure}")
    if not failures:
        console.print(
            "[green]✓ The sale kept every promise:[/] no seat sold twice, no won lost, "
            "everyone in order."
        )


def picture(report: Report, run: SaleRun) -> str:
    """The verdict as an SVG for the README; needs nobody's server to be looked at."""
    console = Console(
        record=True, width=PICTURE_COLUMNS, file=io.StringIO(), color_system="truecolor"
    )
    show(report, run, console)
    svg = console.export_svg(title="make demo")
    # Fonts of a CDN, and a comment with an address: the fall-back is any monospaced font.
    return re.sub(r"@font-face \{.*?\}|<!--.*?-->", "", svg, flags=re.DOTALL)


def _rows(report: Report) -> list[tuple[str, str]]:
    latencies = "   ".join(
        f"{kind} {values['p50']:.0f}/{values['p99']:.0f}"
        for kind, values in report.latency_ms.items()
    )
    return [
        ("fans", f"{report.fans:,}"),
        ("seats sold", f"{report.sold:,} of {report.seats:,} ({report.double_sold} twice)"),
        ("out of order", f"{report.queue_order_inversions}"),
        ("inside at most", f"{report.max_inside} of {report.max_active} allowed"),
        ("holds run out", f"{report.holds_expired:,}"),
        ("payments", f"{report.payments_succeeded:,}, {report.payments_refunded:,} refunded"),
        ("data platform", f"{report.data_platform_payments:,} payments"),
        ("answers 5xx", f"{report.errors_5xx}"),
        ("p50/p99 in ms", latencies),
        ("seconds", f"{report.seconds:.1f}"),
        ("evenings", ", ".join(f"{count} {name}" for name, count in report.outcomes.items())),
    ]


def _show_invariants(report: Report, console: Console) -> None:
    table = Table(title="Invariants", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, count in report.invariants.items():
        table.add_row(name, f"[red]{count}[/]" if count else "[green]0[/]")
    console.print(table)


def sparkline(values: list[int], width: int = PICTURE_WIDTH) -> str:
    """A line of blocks, scaled to the highest value; at most ``width`` characters."""
    if not values or max(values) == 0:
        return ""
    step = max(1, -(-len(values) // width))
    buckets = [max(values[start : start + step]) for start in range(0, len(values), step)]
    top = max(buckets)
    return "".join(SPARK[-(-value * (len(SPARK) - 1) // top)] for value in buckets)
