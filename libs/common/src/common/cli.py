"""The command line every service has: ``serve``, ``migrate`` and ``parked``."""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from common.errors import DependencyUnavailable
from common.logging import configure_logging, get_logger
from common.migrations import MigrationError, migrate
from common.parking import parking
from common.platform import Platform
from common.settings import CommonSettings

LAME_DUCK_SECONDS = 2.0
"""Time between "not ready" and closing the socket: the load balancer and its idle connections
learn of it (every answer says ``Connection: close``), so that no request meets a closed door."""
_BAD_INPUT = 2

log = get_logger(__name__)

CreateApp = Callable[..., FastAPI]


class _Server(uvicorn.Server):
    """Uvicorn that drains first and leaves with exit code 0."""

    def __init__(
        self, config: uvicorn.Config, drain: Callable[[], None], lame_duck_seconds: float
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._lame_duck_seconds = lame_duck_seconds
        self._leaving: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own raises the signal again at the end: exit code -15 for a clean stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._leave)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _leave(self) -> None:
        if self._leaving is None:
            self._drain()
            self._leaving = asyncio.create_task(self._close_later())
        else:
            self.should_exit = True

    async def _close_later(self) -> None:
        await asyncio.sleep(self._lame_duck_seconds)
        self.should_exit = True


def serve_app(
    app: FastAPI, *, host: str, port: int, drain_seconds: float, drain: Callable[[], None]
) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.

    Args:
        app: the application.
        host: address to listen on.
        port: port to listen on.
        drain_seconds: longest time from the signal to the end.
        drain: called at the signal: makes the process not ready.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, int(drain_seconds * 0.6)),
        backlog=4096,
    )
    server = _Server(config, drain, min(LAME_DUCK_SECONDS, drain_seconds / 4))
    server.run()
    return 0 if server.started else 1


def _serve(app: FastAPI, settings: CommonSettings) -> int:
    platform: Platform = app.state.platform
    return serve_app(
        app,
        host=settings.http_host,
        port=settings.http_port,
        drain_seconds=settings.drain_seconds,
        drain=platform.drain,
    )


def _migrate(settings: CommonSettings, migrations: str | Path) -> int:
    migrate(settings, migrations)
    log.info("migrated", schema=settings.database_schema)
    return 0


async def _parked(settings: CommonSettings, options: argparse.Namespace) -> int:
    async with parking(settings) as session:
        if options.action == "list":
            for message in await session.list(options.limit):
                shown = asdict(message) | {"body": message.body.decode(errors="replace")}
                if not options.bodies:
                    del shown["body"]
                sys.stdout.write(json.dumps(shown) + "\n")
            return 0
        act = session.replay if options.action == "replay" else session.discard
        count = await act(options.message_id)
    sys.stdout.write(f"{options.action}: {count}\n")
    # Naming a message that is not there is a mistake; an empty queue is not.
    return 0 if count or options.all else 1


def _parser(service: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{service}-service")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the service until SIGTERM")
    serve.add_argument("--role", choices=["all", "api", "worker"], default="all")
    commands.add_parser("migrate", help="bring the schema to this version's newest revision")
    parked = commands.add_parser("parked", help="messages that were given up on")
    actions = parked.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="show them; nothing is changed")
    listing.add_argument("--limit", type=int, default=100)
    listing.add_argument("--bodies", action="store_true", help="they may hold personal data")
    for name, text in (
        ("replay", "send them to their consumers again, as new"),
        ("discard", "delete them for ever"),
    ):
        action = actions.add_parser(name, help=text)
        which = action.add_mutually_exclusive_group(required=True)
        which.add_argument("--id", dest="message_id", help="one message, by its id")
        which.add_argument("--all", action="store_true", help="every parked message")
    return parser


def settings_fault(error: ValidationError) -> str:
    """What is wrong with the environment, in one line and without the values."""
    faults = (
        f"{'_'.join(str(part) for part in fault['loc']).upper() or 'settings'}: {fault['msg']}"
        for fault in error.errors(include_input=False, include_url=False)
    )
    return "; ".join(faults)


def run(
    service_name: str,
    settings_class: type[CommonSettings],
    create_app: CreateApp,
    migrations_package: str | Path,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run one command of a service; 0 when it is done.

    Otherwise the process exits here, so that no caller can lose the code: 1 failed, 2 bad input,
    with one readable line on stderr.

    Args:
        service_name: ``queue``, ``concert``, …
        settings_class: built from the environment.
        create_app: ``create_app(settings, role) -> FastAPI`` of the composition root.
        migrations_package: import name, e.g. ``payment_service.migrations``, or folder.
        arguments: default: the command line's.
    """
    options = _parser(service_name).parse_args(arguments)
    code = _run(service_name, settings_class, create_app, migrations_package, options)
    if code:
        raise SystemExit(code)
    return code


def _run(
    service_name: str,
    settings_class: type[CommonSettings],
    create_app: CreateApp,
    migrations_package: str | Path,
    options: argparse.Namespace,
) -> int:
    try:
        settings = settings_class()
    except ValidationError as error:
        sys.stderr.write(f"{service_name}-service: {settings_fault(error)}\n")
        return _BAD_INPUT
    configure_logging(service_name, settings.instance, settings.log_level)
    try:
        if options.command == "migrate":
            return _migrate(settings, migrations_package)
        if options.command == "parked":
            return asyncio.run(_parked(settings, options))
        return _serve(create_app(settings, options.role), settings)
    except (DependencyUnavailable, MigrationError, ValueError, OSError) as error:
        sys.stderr.write(f"{service_name}-service: {error}\n")
        return 1
