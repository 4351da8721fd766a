"""A service's application in the test's own process, over ASGI, with its lifespan run."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from common.settings import CommonSettings
from testkit.waiting import eventually

READY_SECONDS = 15.0


@asynccontextmanager
async def running(
    create_app: Callable[..., FastAPI], settings: CommonSettings, **arguments: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Start the application, wait until it is ready, and yield a client of it.

    ``arguments`` go to ``create_app``, e.g. ``role="api"``. The client's ``app`` is at
    ``client._transport.app`` for whoever must look inside; most tests should not.
    """
    app = create_app(settings, **arguments)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:

            async def ready() -> bool:
                return (await client.get("/health/ready")).is_success

            await eventually(ready, READY_SECONDS)
            yield client
