"""Composition root of the fake issuer."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import ValidationError

from common.cli import serve_app, settings_fault
from common.clock import Clock
from common.logging import configure_logging
from common.web import create_web_app
from identity_provider.api import discovery_router, login_router
from identity_provider.keys import KeyStore
from identity_provider.settings import IdentityProviderSettings


class _Host:
    """A process that depends on nothing but its key directory."""

    service_name = "identity"
    documented = True
    serves_api = True
    is_alive = True
    is_open = True

    def __init__(self, settings: IdentityProviderSettings) -> None:
        self.settings = settings
        self.is_draining = False
        self._keys = KeyStore(settings.data_dir / "keys")

    @property
    def is_ready(self) -> bool:
        return not self.is_draining

    def drain(self) -> None:
        self.is_draining = True

    def state(self) -> Mapping[str, object]:
        return {"settings": self.settings, "keys": self._keys, "clock": Clock(), "host": self}

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        configure_logging(self.service_name, "identity-provider", self.settings.log_level)
        yield

    def asyncapi(self) -> None:
        """It sends and hears nothing."""


def create_app(settings: IdentityProviderSettings) -> FastAPI:
    """The issuer's application."""
    return create_web_app(
        _Host(settings),
        title="Fake issuer",
        description="Stands in for the OIDC provider of a production; believes whoever asks.",
        routers=[login_router],
        unprefixed=[discovery_router],
    )


def main() -> int:
    """Serve until SIGTERM; the exit code."""
    try:
        settings = IdentityProviderSettings()
    except ValidationError as error:
        sys.stderr.write(f"identity-provider: {settings_fault(error)}\n")
        return 2
    app = create_app(settings)
    return serve_app(
        app,
        host=settings.http_host,
        port=settings.http_port,
        drain_seconds=settings.drain_seconds,
        drain=app.state.host.drain,
    )
