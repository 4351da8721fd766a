"""The two makes of SQL server a stack can run, and all in which they differ to it.

MariaDB of this system is what the stack runs. MySQL runs only where the servers come from another
root (`make compat`), to prove that the services' SQL is not MariaDB's own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pymysql.cursors import DictCursor

from local_stack.layout import Layout

# Settings that both makes know by the same name.
_CONFIGURATION = """\
[{section}]
user = {user}
datadir = {datadir}
socket = {socket}
pid-file = {pid_file}
bind-address = 127.0.0.1
port = {port}
server-id = {server_id}
skip-name-resolve = ON
character-set-server = utf8mb4
collation-server = utf8mb4_bin
default-time-zone = '+00:00'
max-connections = 600

# What was committed survives a crash: the server's own defaults do not promise that.
innodb-flush-log-at-trx-commit = 1
sync-binlog = 1
innodb-doublewrite = ON

# A statement that waited too long rolls back its whole transaction, soon.
transaction-isolation = READ-COMMITTED
innodb-lock-wait-timeout = 2
innodb-rollback-on-timeout = ON
lock-wait-timeout = 10
sql-mode = STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,\
NO_ENGINE_SUBSTITUTION

log-bin = binlog
binlog-row-image = FULL
binlog-expire-logs-seconds = 86400
max-binlog-size = 256M

innodb-buffer-pool-size = 256M
innodb-temp-data-file-path = ibtmp1:12M:autoextend:max:2G
performance-schema = OFF
"""

_REPLICA = """\
read-only = ON
relay-log = relay
relay-log-recovery = ON
"""

_MARIADB = """\
loose-innodb-snapshot-isolation = ON
binlog-format = ROW
gtid-strict-mode = ON
log-slave-updates = ON
innodb-log-file-size = 128M
"""

_MARIADB_REPLICA = """\
slave-net-timeout = 10
skip-slave-start = OFF
"""

# secure-file-priv: the folder that Debian's default names comes with another package.
_MYSQL = """\
gtid-mode = ON
enforce-gtid-consistency = ON
log-replica-updates = ON
innodb-redo-log-capacity = 128M
mysqlx = OFF
secure-file-priv = NULL
"""

_MYSQL_REPLICA = """\
replica-net-timeout = 10
skip-replica-start = OFF
"""


@dataclass(frozen=True)
class ReplicaState:
    """How a replica follows, in words of neither make."""

    source_host: str
    source_port: int
    by_gtid: bool
    receives: bool
    applies: bool
    receive_error: str
    apply_error: str


class Engine(Protocol):
    """What the stack must know about a make of SQL server."""

    product: str
    server: str
    """The server's program."""
    section: str
    """Its section in an option file."""
    own_options: str
    own_replica_options: str

    def install_command(self, data: Path, user: str) -> tuple[str, ...]:
        """The program, and arguments, that makes an empty data directory.

        Its root account can be reached by unix socket only.
        """

    def position(self, cursor: DictCursor) -> str:
        """What the primary has committed by now."""

    def reaches(self, cursor: DictCursor, position: str, seconds: float) -> bool:
        """Whether the replica gets to a primary's position in that time."""

    def follow(self, cursor: DictCursor, port: int, user: str, password: str) -> None:
        """Point a stopped replica at the primary on 127.0.0.1."""

    def replica_state(self, cursor: DictCursor) -> ReplicaState | None:
        """How it follows, or None where replication was never set up."""


class MariaDb:
    """MariaDB 10.11."""

    product = "MariaDB"
    server = "mariadbd"
    section = "mariadbd"
    own_options = _MARIADB
    own_replica_options = _MARIADB_REPLICA

    def install_command(self, data: Path, user: str) -> tuple[str, ...]:
        """See `Engine`."""
        return (
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            f"--user={user}",
            "--auth-root-authentication-method=socket",
            f"--auth-root-socket-user={user}",
            "--skip-test-db",
            "--skip-name-resolve",
        )

    def position(self, cursor: DictCursor) -> str:
        """See `Engine`."""
        return str(_value(cursor, "SELECT @@gtid_binlog_pos AS value"))

    def reaches(self, cursor: DictCursor, position: str, seconds: float) -> bool:
        """See `Engine`."""
        return bool(
            _value(cursor, "SELECT MASTER_GTID_WAIT(%s, %s) AS value", position, seconds) == 0
        )

    def follow(self, cursor: DictCursor, port: int, user: str, password: str) -> None:
        """See `Engine`."""
        cursor.execute(
            "CHANGE MASTER TO master_host='127.0.0.1', master_port=%s,"
            " master_user=%s, master_password=%s, master_connect_retry=1,"
            " master_heartbeat_period=1, master_use_gtid=slave_pos",
            (port, user, password),
        )

    def replica_state(self, cursor: DictCursor) -> ReplicaState | None:
        """See `Engine`."""
        cursor.execute("SHOW SLAVE STATUS")
        row = cursor.fetchone()
        return row and ReplicaState(
            source_host=row["Master_Host"],
            source_port=int(row["Master_Port"]),
            by_gtid=row["Using_Gtid"] == "Slave_Pos",
            receives=row["Slave_IO_Running"] != "No",
            applies=row["Slave_SQL_Running"] != "No",
            receive_error=row["Last_IO_Error"],
            apply_error=row["Last_SQL_Error"],
        )


class MySql:
    """MySQL 8.4 and newer. It runs from another root, as root."""

    product = "MySQL"
    server = "mysqld"
    section = "mysqld"
    own_options = _MYSQL
    own_replica_options = _MYSQL_REPLICA

    def install_command(self, data: Path, user: str) -> tuple[str, ...]:
        """See `Engine`.

        ``root@localhost`` has no password; TCP comes from 127.0.0.1, which ``skip-name-resolve``
        keeps apart from ``localhost``, and the socket's folder is private.
        """
        return (
            "mysqld",
            "--no-defaults",
            "--initialize-insecure",
            f"--datadir={data}",
            f"--user={user}",
            "--secure-file-priv=NULL",
        )

    def position(self, cursor: DictCursor) -> str:
        """See `Engine`."""
        return str(_value(cursor, "SELECT @@global.gtid_executed AS value"))

    def reaches(self, cursor: DictCursor, position: str, seconds: float) -> bool:
        """See `Engine`."""
        query = "SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %s) AS value"
        return bool(_value(cursor, query, position, seconds) == 0)

    def follow(self, cursor: DictCursor, port: int, user: str, password: str) -> None:
        """See `Engine`. Without TLS, caching_sha2 needs the primary's public key."""
        cursor.execute(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=%s,"
            " SOURCE_USER=%s, SOURCE_PASSWORD=%s, SOURCE_CONNECT_RETRY=1,"
            " SOURCE_HEARTBEAT_PERIOD=1, SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1",
            (port, user, password),
        )

    def replica_state(self, cursor: DictCursor) -> ReplicaState | None:
        """See `Engine`."""
        cursor.execute("SHOW REPLICA STATUS")
        row = cursor.fetchone()
        return row and ReplicaState(
            source_host=row["Source_Host"],
            source_port=int(row["Source_Port"]),
            by_gtid=int(row["Auto_Position"]) == 1,
            receives=row["Replica_IO_Running"] != "No",
            applies=row["Replica_SQL_Running"] != "No",
            receive_error=row["Last_IO_Error"],
            apply_error=row["Last_SQL_Error"],
        )


def engine_of(layout: Layout) -> Engine:
    """The make that a stack runs."""
    return MySql() if layout.servers_root else MariaDb()


def options(  # noqa: D417 - the rest are values of the option file, by its own names
    engine: Engine, *, is_replica: bool, **values: object
) -> str:
    """A server's option file.

    Args:
        engine: its make.
        is_replica: whether it follows the other one.
    """
    text = _CONFIGURATION.format(section=engine.section, **values) + engine.own_options
    return text + _REPLICA + engine.own_replica_options if is_replica else text


def _value(cursor: DictCursor, query: str, *parameters: object) -> Any:
    cursor.execute(query, parameters)
    return (cursor.fetchone() or {})["value"]
