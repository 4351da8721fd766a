"""SQL primary and replica: configuration, accounts, GTID replication.

MariaDB, or MySQL in a stack whose servers come from another root (see `local_stack.engines`).
"""

import getpass
import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
from pymysql.cursors import DictCursor

from local_stack import servers
from local_stack.credentials import Credentials
from local_stack.engines import ReplicaState, engine_of, options
from local_stack.errors import StackError
from local_stack.layout import SERVICES, Layout
from local_stack.ports import Ports
from local_stack.supervisor import ProgramSpec

PRIMARY = "mariadb-primary"
REPLICA = "mariadb-replica"
INSTALL_TIMEOUT_SECONDS = 60.0


def data_directory(layout: Layout, which: str) -> Path:
    """Data directory of the primary or the replica."""
    return layout.data / which


def socket_file(layout: Layout, which: str) -> Path:
    """Unix socket, for root only."""
    return layout.run / f"{which}.sock"


def render(layout: Layout, ports: Ports) -> None:
    """Write both servers' option files."""
    for number, which in enumerate((PRIMARY, REPLICA), start=1):
        _option_file(layout, which).write_text(
            options(
                engine_of(layout),
                is_replica=which == REPLICA,
                user=getpass.getuser() if os.getuid() else "root",
                datadir=data_directory(layout, which),
                socket=socket_file(layout, which),
                pid_file=layout.run / f"{which}.pid",
                port=ports.of(which),
                server_id=number,
            )
        )


def programs(layout: Layout) -> list[ProgramSpec]:
    """The two servers."""
    return [
        ProgramSpec(
            name=which,
            command=servers.command(
                layout, engine_of(layout).server, f"--defaults-file={_option_file(layout, which)}"
            ),
            stop_wait_seconds=30,
        )
        for which in (PRIMARY, REPLICA)
    ]


def initialise(layout: Layout) -> None:
    """Create the data directories that do not exist yet, whole or not at all."""
    for which in (PRIMARY, REPLICA):
        target = data_directory(layout, which)
        if target.exists():
            continue
        unfinished = target.with_name(which + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        user = getpass.getuser() if os.getuid() else "root"
        done = subprocess.run(
            servers.command(layout, *engine_of(layout).install_command(unfinished, user)),
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            log = layout.logs / f"{which}-install.log"
            log.write_text(done.stdout + done.stderr)
            errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
            raise StackError(f"no data directory for {which}: {' '.join(errors[:1])} ({log})")
        unfinished.rename(target)


@contextmanager
def root(layout: Layout, which: str) -> Iterator[DictCursor]:
    """A cursor of the database's root, by unix socket (nobody else can reach it)."""
    connection = pymysql.connect(
        user=getpass.getuser() if os.getuid() else "root",
        read_timeout=30,
        autocommit=True,
        cursorclass=DictCursor,
        defer_connect=True,
    )
    # PyMySQL would leave its own socket open when the server is not there yet.
    with socket.socket(socket.AF_UNIX) as opened:
        try:
            opened.connect(str(socket_file(layout, which)))
        except OSError as reason:
            raise pymysql.OperationalError(f"{which} does not listen: {reason}") from reason
        connection.connect(opened)
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


def answers(layout: Layout, which: str) -> bool:
    """Whether the server takes connections."""
    try:
        with root(layout, which) as cursor:
            cursor.execute("SELECT 1")
    except pymysql.MySQLError:
        return False
    return True


def provision_primary(layout: Layout, credentials: Credentials, *, test_accounts: bool) -> None:
    """Schemas, accounts and grants.

    Nothing is done when they are as they should be already: correcting a grant takes it away
    for a moment, and services may be running.
    """
    accounts = _accounts(credentials, test_accounts=test_accounts)
    digest = hashlib.sha256(repr(accounts).encode()).hexdigest()
    done = data_directory(layout, PRIMARY) / "stagedoor-accounts.sha256"
    if done.exists() and done.read_text() == digest:
        return
    with root(layout, PRIMARY) as cursor:
        _drop_anonymous(cursor)
        for service in SERVICES:
            cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{service}`")
        for user, password, grants in accounts:
            _account(cursor, user, password, grants)
    done.write_text(digest)


def _accounts(
    credentials: Credentials, *, test_accounts: bool
) -> list[tuple[str, str, tuple[str, ...]]]:
    """User, password and grants of every account."""

    def schemas(service: str) -> tuple[str, ...]:
        # Tests give every worker schemas of its own, named after the service's.
        return (service, rf"{service}\_%") if test_accounts else (service,)

    def grants(privileges: str, *services: str) -> tuple[str, ...]:
        return tuple(
            f"{privileges} ON `{schema}`.*" for service in services for schema in schemas(service)
        )

    accounts = []
    for service in SERVICES:
        accounts += [
            (
                f"{service}_service",
                credentials.database[service],
                grants("SELECT, INSERT, UPDATE, DELETE", service),
            ),
            (
                f"{service}_migrator",
                credentials.database_migrator[service],
                grants("ALL PRIVILEGES", service),
            ),
        ]
    # A consistent snapshot (START TRANSACTION WITH CONSISTENT SNAPSHOT) needs SELECT only.
    accounts.append(("audit", credentials.audit, grants("SELECT", *SERVICES)))
    accounts.append(
        ("replication", credentials.database_replication, ("REPLICATION SLAVE ON *.*",))
    )
    if test_accounts:
        accounts.append(("test-admin", credentials.test_admin, ("ALL PRIVILEGES ON *.*",)))
    return accounts


def provision_replica(layout: Layout, ports: Ports, credentials: Credentials) -> None:
    """Point the replica at the primary and start it. Idempotent."""
    engine = engine_of(layout)
    with root(layout, REPLICA) as cursor:
        _drop_anonymous(cursor)
        state = engine.replica_state(cursor)
        wanted = ("127.0.0.1", ports.mariadb_primary, True)
        if state is None or (state.source_host, state.source_port, state.by_gtid) != wanted:
            password = credentials.database_replication
            cursor.execute("STOP REPLICA")
            engine.follow(cursor, ports.mariadb_primary, "replication", password)
            cursor.execute("START REPLICA")
        elif not (state.receives and state.applies):
            cursor.execute("START REPLICA")


def wait_for_replica(layout: Layout, *, timeout_seconds: float) -> None:
    """Wait until the replica has applied all that the primary has committed by now.

    Raises:
        StackError: replication stopped, or is not there in time.
    """
    engine = engine_of(layout)
    with root(layout, PRIMARY) as primary:
        position = engine.position(primary)
    deadline = time.monotonic() + timeout_seconds
    with root(layout, REPLICA) as cursor:
        while True:
            state = engine.replica_state(cursor)
            if state and state.apply_error:
                raise StackError(f"replication stopped: {state.apply_error}")
            if engine.reaches(cursor, position, 0.5):
                return
            if time.monotonic() > deadline:
                reason = (state and state.receive_error) or "it is behind"
                raise StackError(f"the replica does not follow the primary: {reason}")


def replica_state(layout: Layout, cursor: DictCursor) -> ReplicaState | None:
    """How the replica follows, or None where replication was never set up."""
    return engine_of(layout).replica_state(cursor)


def _option_file(layout: Layout, which: str) -> Path:
    return layout.configuration / f"{which}.cnf"


def _drop_anonymous(cursor: DictCursor) -> None:
    """Anonymous accounts of a fresh install shadow named accounts on this host.

    Not written to the binary log: each server drops its own.
    """
    cursor.execute("SELECT Host FROM mysql.user WHERE User = ''")
    hosts = [row["Host"] for row in cursor.fetchall()]
    if not hosts:
        return
    cursor.execute("SET SESSION sql_log_bin = 0")
    for host in hosts:
        cursor.execute("DROP USER ''@%s", (host,))
    cursor.execute("SET SESSION sql_log_bin = 1")


def _account(cursor: DictCursor, user: str, password: str, grants: Iterable[str]) -> None:
    """Create or correct an account: exactly these grants, this password."""
    cursor.execute("CREATE USER IF NOT EXISTS %s@'%%' IDENTIFIED BY %s", (user, password))
    cursor.execute("ALTER USER %s@'%%' IDENTIFIED BY %s", (user, password))
    cursor.execute("REVOKE ALL PRIVILEGES, GRANT OPTION FROM %s@'%%'", (user,))
    for grant in grants:
        cursor.execute(f"GRANT {grant.replace('%', '%%')} TO %s@'%%'", (user,))
