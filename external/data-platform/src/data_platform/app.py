"""Composition root of the fake data platform."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from rich.console import Console

from common.logging import configure_logging
from data_platform.collector import Collector
from data_platform.settings import DataPlatformSettings
from data_platform.warehouse import Dimension, Warehouse


def create_app(settings: DataPlatformSettings) -> FastAPI:
    """The collector with its figures over HTTP."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warehouse = Warehouse(settings.data_dir / "payments.duckdb")
        collector = Collector(settings, warehouse)
        await collector.start()
        printing = asyncio.create_task(_print_figures(warehouse, settings.print_every_seconds))
        app.state.warehouse = warehouse
        try:
            yield
        finally:
            printing.cancel()
            await asyncio.gather(printing, return_exceptions=True)
            await collector.stop()
            warehouse.close()

    app = FastAPI(title="Data platform (fake)", lifespan=lifespan)

    @app.get("/revenue")
    def revenue(by: Dimension = Dimension.CONCERT) -> dict[str, Any]:
        """Revenue and seats per concert, performance or minute; refunds are taken off."""
        warehouse: Warehouse = app.state.warehouse
        return {"items": warehouse.revenue(by)}

    @app.get("/totals")
    def totals() -> dict[str, int]:
        """The same over everything, and how many records could not be read."""
        warehouse: Warehouse = app.state.warehouse
        return warehouse.totals()

    @app.get("/payments/count")
    def count() -> dict[str, int]:
        """How many payments succeeded, and how many of them were refunded since."""
        warehouse: Warehouse = app.state.warehouse
        totals = warehouse.totals()
        return {"succeeded": totals["payments"], "refunded": totals["refunds"]}

    @app.get("/health/ready")
    def ready() -> dict[str, str]:
        """Started."""
        return {"status": "up"}

    return app


async def _print_figures(warehouse: Warehouse, every_seconds: float) -> None:
    """One line whenever the figures have changed."""
    console = Console(highlight=False)
    shown: dict[str, int] = {}
    while True:
        await asyncio.sleep(every_seconds)
        totals = await asyncio.to_thread(warehouse.totals)
        if totals != shown:
            shown = totals
            console.print(
                f"revenue {totals['revenue']:,} · seats {totals['seats']:,} · "
                f"payments {totals['payments']:,} · refunds {totals['refunds']:,}"
            )


def main() -> int:
    """Serve until SIGTERM; the exit code."""
    try:
        settings = DataPlatformSettings()
    except ValidationError as error:
        fields = ", ".join(str(fault["loc"][0]).upper() for fault in error.errors())
        sys.stderr.write(f"data-platform: missing or wrong settings: {fields}\n")
        return 2
    configure_logging("data-platform", "data-platform", settings.log_level)
    uvicorn.run(
        create_app(settings),
        host=settings.http_host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(settings.drain_seconds),
    )
    return 0
