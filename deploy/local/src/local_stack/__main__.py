"""Command line: ``python -m local_stack up|down|status|logs|env``."""

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from local_stack import gateway
from local_stack.engines import engine_of
from local_stack.errors import StackError
from local_stack.layout import SERVICES
from local_stack.stack import Stack

_STYLES = {"RUNNING": "green", "STARTING": "yellow", "STOPPED": "dim", "STOPPING": "yellow"}


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when it was done, 1 when the stack is not (wholly) up, 2 when something failed.
    """
    chosen = _parser().parse_args(arguments)
    console = Console(highlight=False)
    try:
        stack = Stack(
            chosen.stack,
            test_accounts=chosen.test_accounts or None,
            servers_root=getattr(chosen, "servers_root", None),
        )
        code: int = chosen.run(stack, chosen, console)
    except StackError as problem:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]✗[/] {problem}")
        return 2
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local_stack", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--stack", metavar="NAME", default="demo", help="default: demo")
    common.add_argument(
        "--test-accounts", action="store_true", help="accounts for tests exist in this stack"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", parents=[common], help="start it, wait until it is ready")
    up.add_argument("--infrastructure-only", action="store_true", help="servers only")
    up.add_argument(
        "--servers-root",
        type=Path,
        metavar="FOLDER",
        help="MySQL and RabbitMQ of the system in this folder (see scripts/compat.sh)",
    )
    up.set_defaults(run=_up)
    down = commands.add_parser("down", parents=[common], help="stop it; data are kept")
    down.add_argument("--remove-data", action="store_true", help="and delete everything of it")
    down.add_argument("--quiet", action="store_true", help="say nothing unless it fails")
    down.set_defaults(run=_down)
    status = commands.add_parser("status", parents=[common], help="what runs, and where")
    status.set_defaults(run=_status)
    logs = commands.add_parser("logs", parents=[common], help="follow the programs' output")
    logs.add_argument("program", nargs="*", help="default: services and gateway")
    logs.set_defaults(run=_logs)
    env = commands.add_parser("env", parents=[common], help="a service's settings for a shell")
    env.add_argument("service", choices=SERVICES)
    env.set_defaults(run=_env)
    return parser


def _up(stack: Stack, chosen: argparse.Namespace, console: Console) -> int:
    started = time.monotonic()

    def report(line: str) -> None:
        console.print(f"[green]✓[/] {line} [dim]{time.monotonic() - started:5.1f} s[/]")

    with console.status(f"Starting stack {stack.name} …"):
        stack.up(infrastructure_only=chosen.infrastructure_only, report=report)
    _say_where(stack, console, infrastructure_only=chosen.infrastructure_only)
    return 0


def _down(stack: Stack, chosen: argparse.Namespace, console: Console) -> int:
    console.quiet = chosen.quiet
    with console.status(f"Stopping stack {stack.name} …"):
        stack.down(report=lambda line: console.print(f"[green]✓[/] {line}"))
        if chosen.remove_data:
            stack.remove()
            console.print(f"[green]✓[/] {stack.directory} is gone")
    return 0


def _status(stack: Stack, _: argparse.Namespace, console: Console) -> int:
    programs = stack.status()
    if not programs:
        console.print(f"Stack {stack.name} is down.")
        return 1
    table = Table(title=f"Stack {stack.name}", box=None, title_justify="left")
    for column in ("program", "state", "port", "pid and uptime"):
        table.add_column(column)
    for program in programs:
        state = f"[{_STYLES.get(program.state, 'red')}]{program.state}[/]"
        table.add_row(program.name, state, str(stack.ports.of(program.name)), program.description)
    console.print(table)
    _say_where(stack, console, infrastructure_only=False)
    return 0 if all(program.running for program in programs) else 1


def _logs(stack: Stack, chosen: argparse.Namespace, _: Console) -> int:
    known = {file.stem: file for file in stack.layout.logs.glob("*.log")}
    wanted = chosen.program or [n for n in known if n.rstrip("-12").endswith("-service")]
    unknown = sorted(set(wanted) - set(known))
    if unknown or not wanted:
        raise StackError(f"no log of {', '.join(unknown) or 'any program'} in {stack.layout.logs}")
    os.execvp("tail", ["tail", "-n", "50", "-F", *(str(known[name]) for name in wanted)])


def _env(stack: Stack, chosen: argparse.Namespace, console: Console) -> int:
    for name, value in sorted(stack.environment(chosen.service).items()):
        console.print(f"export {name}={shlex.quote(value)}", soft_wrap=True, markup=False)
    return 0


def _say_where(stack: Stack, console: Console, *, infrastructure_only: bool) -> None:
    ports = stack.ports
    if not infrastructure_only:
        console.print(f"Gateway   {gateway.url(ports)}   documentation {gateway.url(ports)}/docs")
    sql = engine_of(stack.layout).product
    console.print(
        f"{sql} {ports.mariadb_primary} (replica {ports.mariadb_replica}) · "
        f"Redis {ports.redis} · RabbitMQ {ports.rabbitmq} "
        f"(management {ports.rabbitmq_management}) · Kafka {ports.kafka} · all on 127.0.0.1"
    )
    console.print(f"Logs      {stack.layout.logs}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
