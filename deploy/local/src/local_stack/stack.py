"""One named stack: start, stop, look at it."""

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from local_stack import (
    credentials,
    gateway,
    kafka,
    mariadb,
    processes,
    rabbitmq,
    readiness,
    redis_server,
    servers,
    services,
)
from local_stack import ports as port_blocks
from local_stack.credentials import Credentials, KeyFiles
from local_stack.engines import engine_of
from local_stack.errors import StackError
from local_stack.layout import FAKES, INFRASTRUCTURE, SERVICES, Layout, repository
from local_stack.ports import Ports
from local_stack.supervisor import STACK_VARIABLE, Program, ProgramSpec, Supervisor, render

READY_TIMEOUT_SECONDS = 90.0
"""Longest wait for one part to answer after it was started."""
CRASHING_SECONDS = 20.0
"""A program that still ends by itself after so long will not get ready by waiting."""
STOP_TIMEOUT_SECONDS = 45.0
MIGRATE_TIMEOUT_SECONDS = 120.0
PORTS_FREE_TIMEOUT_SECONDS = 2.0
"""The kernel closes a killed process's sockets a moment after the process is gone."""
POLL_SECONDS = 0.05

Report = Callable[[str], None]
"""Told one short line whenever something has been reached."""


def _silent(_: str) -> None:
    pass


class Stack:
    """A stack by name. Creating the object touches nothing.

    Args:
        name: lower-case letters, digits, hyphens.
        root: the clone; by default the one this package is installed from.
        test_accounts: whether accounts for tests exist (``test-admin``, and the services' own
            may use schemas ``<service>_…`` and Redis keys ``<service>_…``). Default: only in
            stacks whose name begins with ``test``.
        limits: what the gateway grants one client address.
        servers_root: take MySQL and RabbitMQ from the system in this folder instead of MariaDB
            and RabbitMQ from this one (needs root). A stack keeps to it from its first start on.
    """

    def __init__(
        self,
        name: str,
        *,
        root: Path | None = None,
        test_accounts: bool | None = None,
        limits: gateway.Limits | None = None,
        servers_root: Path | None = None,
    ) -> None:
        self.name = name
        own = Layout(name=name, root=(root or repository()).resolve())
        taken_from = servers_root.resolve() if servers_root else servers.recall_root(own)
        self.layout = replace(own, servers_root=taken_from)
        self.test_accounts = name.startswith("test") if test_accounts is None else test_accounts
        self.limits = limits or gateway.Limits()
        self._supervisor = Supervisor(self.layout)

    # What a stack is told and tells

    @property
    def directory(self) -> Path:
        """``.stack/<name>``."""
        return self.layout.directory

    @property
    def ports(self) -> Ports:
        """The ports chosen at the first start.

        Raises:
            StackError: the stack was never started.
        """
        chosen = port_blocks.recall(self._stack_file)
        if chosen is None:
            raise StackError(f"stack {self.name!r} was never started")
        return chosen

    @property
    def credentials(self) -> Credentials:
        """The stack's passwords; made when they do not exist yet."""
        self.layout.create()
        return credentials.load(self.layout.secrets)

    @property
    def keys(self) -> KeyFiles:
        """Where the stack's keys are."""
        return KeyFiles(self.layout.secrets)

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return gateway.url(self.ports)

    def environment(self, service: str, replica: int = 1) -> dict[str, str]:
        """Settings of a replica of ``queue``, ``concert``, … as environment variables."""
        return services.environment(self.layout, self.ports, service, replica)

    def migration_environment(self, service: str) -> dict[str, str]:
        """Settings of a service's migration job."""
        return services.migration_environment(self.layout, self.ports, self.credentials, service)

    def log_file(self, program: str) -> Path:
        """Where a program's output goes."""
        return self.layout.logs / f"{program}.log"

    # Start and stop

    def up(self, *, infrastructure_only: bool = False, report: Report = _silent) -> None:
        """Start what does not run yet and wait until it answers. Doing it twice is fine.

        Args:
            infrastructure_only: MariaDB, Redis, RabbitMQ and Kafka only; what else runs, stays.
            report: is told what has been reached.

        Raises:
            StackError: a part did not come up in time; the message says where to look.
        """
        self.layout.create()
        with self._exclusive():
            servers.keep_root(self.layout)
            self._supervise(report)
            self._start_infrastructure(report)
            if not infrastructure_only:
                self._migrate(report)
                self._start_applications(report)

    def down(self, *, report: Report = _silent) -> None:
        """Stop everything. Afterwards no process of the stack lives; its data stay."""
        if not self.directory.exists():
            return
        with self._exclusive():
            if self._supervisor.alive():
                running = [program.name for program in self._supervisor.programs()]
                outer = [name for name in running if name not in INFRASTRUCTURE]
                self._supervisor.stop_programs(outer, timeout_seconds=STOP_TIMEOUT_SECONDS)
                if outer:
                    report("services stopped")
                # The primary goes last: the replica says goodbye to it, Redis and the rest
                # do not care.
                self._supervisor.stop_programs(
                    [name for name in INFRASTRUCTURE if name != mariadb.PRIMARY],
                    timeout_seconds=STOP_TIMEOUT_SECONDS,
                )
                self._supervisor.stop_programs(
                    [mariadb.PRIMARY], timeout_seconds=STOP_TIMEOUT_SECONDS
                )
                report("infrastructure stopped")
                self._supervisor.shutdown()
                self._wait("supervisord ends", lambda: not self._supervisor.alive(), 15)
                self._wait("its process ends", lambda: not self._supervisor_process(), 15)
            for line in processes.end_all(self.directory):
                report(f"killed a stray: {line}")
            shutil.rmtree(self.layout.run, ignore_errors=True)
            left = processes.of_stack(self.directory)
            if left:
                raise StackError(f"still running: {[process.pid for process in left]}")
            report("nothing of the stack runs any more")

    def remove(self) -> None:
        """Stop everything and delete the stack with its data."""
        self.down()
        shutil.rmtree(self.directory, ignore_errors=True)

    # Looking at programs, and treating them badly

    def alive(self) -> bool:
        """Whether the stack's supervisor runs."""
        return self._supervisor.alive()

    def status(self) -> list[Program]:
        """Every program, or nothing when the stack is down."""
        return self._supervisor.programs() if self._supervisor.alive() else []

    def status_of(self, program: str) -> Program:
        """One program as the supervisor sees it now."""
        return self._supervisor.program(program)

    def pid_of(self, program: str) -> int:
        """Process id of a running program, such as ``queue-service-1``.

        Raises:
            StackError: it does not run.
        """
        found = self._supervisor.program(program)
        if not found.pid:
            raise StackError(f"{program} does not run: {found.state}")
        return found.pid

    def stop(self, *programs: str) -> None:
        """Stop programs and wait until they are gone; they stay stopped until `start`."""
        self._supervisor.stop_programs(programs, timeout_seconds=STOP_TIMEOUT_SECONDS)

    def start(self, *programs: str) -> None:
        """Start programs and wait until they answer."""
        self._supervisor.start_programs(programs)
        self._wait_for(programs)

    def restart(self, *programs: str) -> None:
        """Stop programs together, start them, wait until they answer."""
        self.stop(*programs)
        self.start(*programs)

    # What tests need

    def add_vhost(self, vhost: str) -> None:
        """A RabbitMQ vhost with the accounts, rights and exchanges of the main one."""
        rabbitmq.add_vhost(self.ports, self.credentials, vhost, test_accounts=self.test_accounts)

    def remove_vhost(self, vhost: str) -> None:
        """Delete a vhost and all that is in it."""
        rabbitmq.remove_vhost(self.ports, self.credentials, vhost)

    def wait_for_replica(self, timeout_seconds: float = 10.0) -> None:
        """Wait until the replica has all that is committed now."""
        mariadb.wait_for_replica(self.layout, timeout_seconds=timeout_seconds)

    # How it is done

    @property
    def _stack_file(self) -> Path:
        return self.directory / "stack.json"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One start or stop at a time, also between processes (test workers)."""
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _supervise(self, report: Report) -> None:
        """Have supervisord run, with the configuration of now."""
        running = self._supervisor.alive()
        if not running:
            for line in processes.end_all(self.directory):
                report(f"killed a stray of an earlier run: {line}")
            self._choose_ports(report)
        ports, passwords = self.ports, self.credentials
        self.keys.create()
        services.write_secrets(self.layout, passwords)
        mariadb.render(self.layout, ports)
        redis_server.render(self.layout, ports, passwords, test_accounts=self.test_accounts)
        rabbitmq.render(self.layout, ports, passwords, test_accounts=self.test_accounts)
        gateway.render(self.layout, ports, self.limits)
        render(self.layout, self._specs(ports))
        if running:
            self._supervisor.reload()
        else:
            self._supervisor.start()

    def _choose_ports(self, report: Report) -> None:
        """Keep the ports of the last start while they are free; else take others and say so."""
        before = port_blocks.recall(self._stack_file)
        if before and port_blocks.become_free(before, PORTS_FREE_TIMEOUT_SECONDS):
            return
        wants_demo_gateway = self.name == "demo"
        chosen = port_blocks.choose(self.directory, wants_demo_gateway=wants_demo_gateway)
        port_blocks.remember(chosen, self._stack_file)
        if wants_demo_gateway and chosen.gateway != port_blocks.DEMO_GATEWAY:
            report(
                f"port {port_blocks.DEMO_GATEWAY} is taken by something else: "
                f"the gateway is on {chosen.gateway}"
            )
        elif before:
            report(f"the ports of the last start are taken; now from {chosen.base}")

    def _specs(self, ports: Ports) -> list[ProgramSpec]:
        return [
            *mariadb.programs(self.layout),
            redis_server.program(self.layout),
            *rabbitmq.programs(self.layout, ports),
            kafka.program(self.layout, ports),
            *services.programs(self.layout, ports),
            gateway.program(self.layout),
        ]

    def _start_infrastructure(self, report: Report) -> None:
        # RabbitMQ takes longest: it boots while MariaDB makes its data directories.
        first = [name for name in INFRASTRUCTURE if not name.startswith("mariadb")]
        self._supervisor.start_programs(first)
        mariadb.initialise(self.layout)
        self._supervisor.start_programs([mariadb.PRIMARY, mariadb.REPLICA])
        self._wait_for([mariadb.PRIMARY, mariadb.REPLICA])
        mariadb.provision_primary(self.layout, self.credentials, test_accounts=self.test_accounts)
        mariadb.provision_replica(self.layout, self.ports, self.credentials)
        self.wait_for_replica(READY_TIMEOUT_SECONDS)
        report(f"{engine_of(self.layout).product} primary and replica are ready")
        self._wait_for(first)
        report("Redis, RabbitMQ and Kafka are ready")

    def _migrate(self, report: Report) -> None:
        with ThreadPoolExecutor(len(SERVICES)) as pool:
            list(pool.map(self._migrate_one, SERVICES))
        report("schemas are up to date")

    def _migrate_one(self, service: str) -> None:
        log = self.layout.logs / f"{service}-service-migrate.log"
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            STACK_VARIABLE: str(self.directory),
            **self.migration_environment(service),
        }
        with log.open("w") as output:
            done = subprocess.run(
                services.migrate_command(self.layout, service),
                cwd=self.layout.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=MIGRATE_TIMEOUT_SECONDS,
                check=False,
            )
        if done.returncode != 0:
            program = f"{service}-service-migrate"
            raise StackError(f"migrating schema {service} failed: {self._last_words(program)}")

    def _start_applications(self, report: Report) -> None:
        names = services.names()
        self._supervisor.start_programs([*names, gateway.NAME])
        self._wait_for([*FAKES, gateway.NAME])
        report("gateway and fakes are ready")
        self._wait_for([name for name in names if name not in FAKES])
        report(f"services are ready ({len(names) - len(FAKES)} processes)")

    def _wait_for(self, programs: Iterable[str]) -> None:
        for program in programs:
            self._wait_for_one(program)

    def _wait_for_one(self, program: str) -> None:
        started = time.monotonic()
        while not readiness.answers(
            program, self.layout, self.ports, self.credentials, self._supervisor
        ):
            waited = time.monotonic() - started
            state = self._supervisor.program(program).state
            crashing = state == "BACKOFF" and waited > CRASHING_SECONDS
            if crashing or waited > READY_TIMEOUT_SECONDS:
                raise StackError(
                    f"{program} does not get ready ({state} after {waited:.0f} s): "
                    f"{self._last_words(program)}"
                )
            time.sleep(POLL_SECONDS)

    def _last_words(self, program: str) -> str:
        log = self.log_file(program)
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return f"{lines[-1][:300] if lines else 'no output'} ({log})"

    def _wait(self, what: str, reached: Callable[[], bool], timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not reached():
            if time.monotonic() > deadline:
                raise StackError(f"waited {timeout_seconds:.0f} s in vain until {what}")
            time.sleep(POLL_SECONDS)

    def _supervisor_process(self) -> bool:
        """Whether supervisord's process still exists."""
        return any(
            "supervisor.supervisord" in " ".join(_command_line(process))
            for process in processes.of_stack(self.directory)
        )


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
