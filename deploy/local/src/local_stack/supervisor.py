"""The stack's supervisord: its configuration, and talking to it over its unix socket."""

import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from supervisor.xmlrpc import SupervisorTransport

from local_stack.errors import StackError
from local_stack.layout import Layout

START_TIMEOUT_SECONDS = 10.0
STACK_VARIABLE = "STAGEDOOR_STACK"
"""Every process of a stack carries the stack's directory in this variable: that is how stray
ones are found after the supervisor itself was killed (see `local_stack.processes`)."""


@dataclass(frozen=True)
class ProgramSpec:
    """One program as supervisord is to run it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_wait_seconds: int = 10
    """After SIGTERM; then SIGKILL."""
    directory: Path | None = None
    """Where it runs; default: the clone."""


@dataclass(frozen=True)
class Program:
    """A program as supervisord sees it now."""

    name: str
    state: str
    """supervisord's words: RUNNING, STARTING, STOPPED, BACKOFF, STOPPING, EXITED, FATAL."""
    pid: int
    description: str

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.state == "RUNNING"


def render(layout: Layout, specs: Iterable[ProgramSpec]) -> None:
    """Write ``supervisord.conf``. Nothing starts by itself: `Stack.up` starts in order."""
    lines = [
        "[supervisord]",
        f"logfile={_escaped(layout.logs / 'supervisord.log')}",
        "logfile_maxbytes=5MB",
        "logfile_backups=1",
        f"pidfile={_escaped(layout.run / 'supervisord.pid')}",
        f"directory={_escaped(layout.directory)}",
        f"identifier=stagedoor-{layout.name}",
        "minfds=8192",
        *(["user=root"] if os.getuid() == 0 else []),
        f"environment={STACK_VARIABLE}={_quoted(str(layout.directory))}",
        "[unix_http_server]",
        f"file={_escaped(layout.run / 'supervisor.sock')}",
        "chmod=0600",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for spec in specs:
        lines += _section(layout, spec)
    file = layout.configuration / "supervisord.conf"
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_text("\n".join(lines) + "\n")


def _section(layout: Layout, spec: ProgramSpec) -> list[str]:
    environment = ",".join(f"{k}={_quoted(v)}" for k, v in sorted(spec.environment.items()))
    return [
        f"[program:{spec.name}]",
        f"command={_escaped(shlex.join(spec.command))}",
        f"directory={_escaped(spec.directory or layout.root)}",
        *([f"environment={environment}"] if environment else []),
        "autostart=false",
        "autorestart=true",
        # supervisord gives a program up after this many tries in a row. A dependency may be
        # away for longer than the default of three, so never give up.
        "startretries=100000",
        "startsecs=1",
        f"stopwaitsecs={spec.stop_wait_seconds}",
        "stopsignal=TERM",
        "stopasgroup=true",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={_escaped(layout.logs / (spec.name + '.log'))}",
        "stdout_logfile_maxbytes=20MB",
        "stdout_logfile_backups=1",
    ]


def _escaped(text: str | Path) -> str:
    """A percent sign starts an expansion in supervisord's files."""
    return str(text).replace("%", "%%")


def _quoted(value: str) -> str:
    if '"' in value or "\n" in value:
        raise StackError(f"a value for supervisord holds a quote or a line end: {value!r}")
    return '"' + _escaped(value) + '"'


class Supervisor:
    """Remote control of one stack's supervisord."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._socket = layout.run / "supervisor.sock"

    def alive(self) -> bool:
        """Whether supervisord answers."""
        try:
            return bool(self._call("getState")["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def start(self) -> None:
        """Start supervisord with the rendered configuration and wait until it answers."""
        environment = {
            name: value
            for name, value in os.environ.items()
            # A test runner's or a person's own settings must not leak into the services.
            if name in {"HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "USER", "LOGNAME"}
        }
        environment["PATH"] = os.pathsep.join(
            (environment.get("PATH", "/usr/bin:/bin"), "/usr/local/sbin", "/usr/sbin", "/sbin")
        )
        environment[STACK_VARIABLE] = str(self._layout.directory)
        log = self._layout.logs / "supervisord-start.log"
        with log.open("w") as output:
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "supervisor.supervisord",
                    "-c",
                    str(self._layout.configuration / "supervisord.conf"),
                ],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=START_TIMEOUT_SECONDS,
                check=False,
            )
        if done.returncode != 0:
            last = log.read_text().strip().splitlines()[-1:]
            raise StackError(f"supervisord did not start: {' '.join(last)} ({log})")
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not self.alive():
            if time.monotonic() > deadline:
                raise StackError(f"supervisord does not answer ({self._layout.logs})")
            time.sleep(0.02)

    def reload(self) -> None:
        """Take over the configuration as rendered now.

        Running programs whose section did not change keep running; the others stop, the caller
        starts them again.
        """
        ((added, changed, removed),) = self._call("reloadConfig")
        for name in (*changed, *removed):
            self._call("stopProcessGroup", name)
            self._call("removeProcessGroup", name)
        for name in (*changed, *added):
            self._call("addProcessGroup", name)

    def programs(self) -> list[Program]:
        """All configured programs."""
        return [
            Program(
                name=info["name"],
                state=info["statename"],
                pid=info["pid"],
                description=info["description"],
            )
            for info in self._call("getAllProcessInfo")
        ]

    def program(self, name: str) -> Program:
        """One program.

        Raises:
            StackError: no program has that name.
        """
        for program in self.programs():
            if program.name == name:
                return program
        raise StackError(f"the stack has no program {name!r}")

    def start_programs(self, names: Iterable[str]) -> None:
        """Ask for programs to be started; does not wait. Those that run are left alone."""
        states = {program.name: program.state for program in self.programs()}
        for name in names:
            if states.get(name) in {"RUNNING", "STARTING"}:
                continue
            with suppress(xmlrpc.client.Fault):  # BACKOFF: it is being started already
                self._call("startProcess", name, False)

    def stop_programs(self, names: Iterable[str], *, timeout_seconds: float) -> None:
        """Stop programs together and wait until they are gone."""
        wanted = set(names)
        for program in self.programs():
            if program.name in wanted and program.state not in {"STOPPED", "EXITED", "FATAL"}:
                with suppress(xmlrpc.client.Fault):  # it ended by itself in between
                    self._call("stopProcess", program.name, False)
        deadline = time.monotonic() + timeout_seconds
        while True:
            left = [p.name for p in self.programs() if p.name in wanted and p.pid]
            if not left:
                return
            if time.monotonic() > deadline:
                raise StackError(f"did not stop: {', '.join(left)}")
            time.sleep(0.05)

    def shutdown(self) -> None:
        """Tell supervisord to end; it stops what still runs first."""
        with suppress(OSError, xmlrpc.client.Error):
            self._call("shutdown")

    def _call(self, method: str, *arguments: object) -> Any:
        """One XML-RPC call. Its answers have no static type."""
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        remote = cast("Any", getattr(proxy.supervisor, method))
        try:
            return remote(*arguments)
        finally:
            transport.close()
