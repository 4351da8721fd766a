"""What the person at the keyboard sees while the sale runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from local_stack.demo.sale import SaleRun

DRAW_EVERY_SECONDS = 0.5
PLAIN_LINE_EVERY_SECONDS = 3.0


class SaleProgress:
    """Bars on a terminal; one plain line every few seconds anywhere else."""

    def __init__(self, run: SaleRun, console: Console) -> None:
        self._run = run
        self._console = console

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show progress until the block ends."""
        draw = self._bars() if self._console.is_terminal else self._lines()
        drawing = asyncio.create_task(draw)
        try:
            yield
        finally:
            drawing.cancel()
            await asyncio.gather(drawing, return_exceptions=True)

    async def _lines(self) -> None:
        while True:
            figures, sale = self._run.figures, self._run.sale
            self._console.print(
                f"{self._run.seconds:6.1f} s  {figures.phase}: {figures.arrived} arrived, "
                f"{figures.waiting} in line, {sale.inside} inside, {figures.seats_held} held, "
                f"{figures.seats_sold}/{self._run.plan.seats} sold, "
                f"₩{figures.revenue:,} at the data platform",
                highlight=False,
            )
            await asyncio.sleep(PLAIN_LINE_EVERY_SECONDS)

    async def _bars(self) -> None:
        plan = self._run.plan
        bars = Progress(
            TextColumn("{task.description:>8}"), BarColumn(40), TextColumn("{task.fields[figure]}")
        )
        rows: dict[str, TaskID] = {
            "arrived": bars.add_task("arrived", total=plan.fans, figure=""),
            "line": bars.add_task("line", total=plan.fans, figure=""),
            "inside": bars.add_task("inside", total=plan.max_active, figure=""),
            "held": bars.add_task("held", total=plan.seats, figure=""),
            "sold": bars.add_task("sold", total=plan.seats, figure=""),
            "done": bars.add_task("done", total=plan.fans, figure=""),
        }
        with Live(console=self._console, refresh_per_second=4) as live:
            while True:
                figures, sale = self._run.figures, self._run.sale
                values = {
                    "arrived": figures.arrived,
                    "line": figures.waiting,
                    "inside": sale.inside,
                    "held": figures.seats_held,
                    "sold": figures.seats_sold,
                    "done": sale.done,
                }
                for name, value in values.items():
                    bars.update(rows[name], completed=value, figure=f"{value:,}")
                live.update(Group(self._headline(), bars, self._money()))
                await asyncio.sleep(DRAW_EVERY_SECONDS)

    def _headline(self) -> Text:
        return Text(f"{self._run.seconds:6.1f} s  {self._run.figures.phase}", style="bold")

    def _money(self) -> Table:
        figures = self._run.figures
        table = Table.grid(padding=(0, 2))
        table.add_row(
            "data platform",
            f"{figures.data_platform_payments:,} payments",
            f"₩{figures.revenue:,}",
            f"{self._run.recorder.errors_5xx} × 5xx",
        )
        return table
