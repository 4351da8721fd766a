"""The test stack's servers, and a corner of them for each process that runs tests.

Several test sessions, and the workers of each, use one stack at a time. Each process holds a
numbered slot: schemas, Redis prefixes and a vhost of its own, made anew when it first needs them.
"""

import fcntl
import itertools
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

import pymysql

from common.migrations import migrate
from common.settings import CommonSettings
from local_stack import Stack
from local_stack.layout import SERVICES
from local_stack.redis_server import admin as redis_admin
from testkit.identity import AUDIENCE, ISSUER, Bearer, QueuePass

STACK = os.environ.get("STAGEDOOR_TEST_STACK", "test")
ADMIN = "test-admin"

S = TypeVar("S", bound=CommonSettings)


class SettingsFor(Protocol):
    """Type of the fixture ``settings_for``."""

    def __call__(
        self, settings_class: type[S], *, migrations: str | Path | None = None, **overrides: Any
    ) -> S:
        """Settings of a service on this process's slot, its schema migrated.

        Args:
            settings_class: the service's.
            migrations: folder or package of its revisions; default ``<name>_service.migrations``.
            overrides: settings to replace, by field name.
        """


class StackUse:
    """Who uses the stack, and who must put it back to sleep.

    Every process that may need it holds a shared lock for as long as it lives; whoever finds
    nobody else at the end stops the stack, if tests had started it.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        folder = stack.directory.parent
        folder.mkdir(parents=True, exist_ok=True)
        self._lock: TextIO = (folder / f"{stack.name}.users").open("w")
        self._started_by_tests = folder / f"{stack.name}.started-by-tests"

    def begin(self) -> None:
        """Announce this process; waits while the stack is being stopped."""
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def start(self) -> None:
        """Have the servers run."""
        if not self._stack.alive():
            self._started_by_tests.touch()
        self._stack.up(infrastructure_only=True)

    def end(self, *, stop_if_last: bool) -> None:
        """This process needs it no more."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        if stop_if_last and self._started_by_tests.exists():
            with suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._stack.down()
                self._started_by_tests.unlink(missing_ok=True)
        self._lock.close()


class Infrastructure:
    """The running servers and this process's slot on them."""

    def __init__(self, stack: Stack, bearer: Bearer, queue_pass: QueuePass) -> None:
        self.stack = stack
        self.ports = stack.ports
        self._bearer = bearer
        self._queue_pass = queue_pass
        self._slot_lock, number = _take_slot(stack.directory.parent / f"{stack.name}.slots")
        self.slot = f"t{number}"
        """Names everything of this process: ``queue_t0``, ``queue_t0:``, vhost ``t0-…``."""
        self._migrated: set[str] = set()
        self._forget_keys()
        self.vhost = self._fresh_vhost()

    def close(self) -> None:
        """Give the slot back; what is in it stays until somebody takes it again."""
        self._slot_lock.close()

    def _fresh_vhost(self) -> str:
        """Make a vhost that never was, and remove the slot's last one.

        Quorum queues of a vhost made again under its old name meet their dying namesakes.
        """
        note = Path(self._slot_lock.name).with_suffix(".vhost")
        if note.exists():
            self.stack.remove_vhost(note.read_text())
        vhost = f"{self.slot}-{secrets.token_hex(4)}"
        note.write_text(vhost)
        self.stack.add_vhost(vhost)
        return vhost

    @property
    def broker_url(self) -> str:
        """The slot's vhost, as the administrator."""
        password = self.stack.credentials.test_admin
        return f"amqp://{ADMIN}:{password}@127.0.0.1:{self.ports.rabbitmq}/{self.vhost}"

    @contextmanager
    def root(self) -> Iterator[pymysql.cursors.Cursor]:
        """A cursor on the primary that may do everything."""
        connection = pymysql.connect(
            host="127.0.0.1",
            port=self.ports.mariadb_primary,
            user=ADMIN,
            password=self.stack.credentials.test_admin,
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            yield cursor

    def settings_for(
        self, settings_class: type[S], *, migrations: str | Path | None = None, **overrides: Any
    ) -> S:
        """See `SettingsFor`."""
        name = settings_class.service_name
        values = self._values(name)
        known = {field: values[field] for field in values if field in settings_class.model_fields}
        settings = settings_class(**(known | overrides))
        schema = f"{name}_{self.slot}"
        if schema not in self._migrated:
            self._create_schema(schema)
            target = settings_class(**(known | overrides | self._migrator(name)))
            migrate(target, migrations or f"{name}_service.migrations")
            self._migrated.add(schema)
            self.stack.wait_for_replica()
        return settings

    def _values(self, name: str) -> dict[str, Any]:
        """Field values of a service on this slot."""
        passwords = self.stack.credentials
        service = name if name in SERVICES else None
        environment = self.stack.environment(service or SERVICES[0])
        values: dict[str, Any] = {key.lower(): value for key, value in environment.items()}
        values |= {
            "instance": f"{name}-{self.slot}-{os.getpid()}",
            "database_schema": f"{name}_{self.slot}",
            "database_user": f"{service}_service" if service else ADMIN,
            "database_password": passwords.database[service] if service else passwords.test_admin,
            "redis_username": service or ADMIN,
            "redis_password": passwords.redis[service] if service else passwords.test_admin,
            "redis_prefix": f"{name}_{self.slot}:",
            "broker_url": f"amqp://127.0.0.1:{self.ports.rabbitmq}/{self.vhost}",
            "broker_user": service or ADMIN,
            "broker_password": passwords.broker[service] if service else passwords.test_admin,
            "identity_issuer": ISSUER,
            "identity_audience": AUDIENCE,
            "identity_jwks_url": self._bearer.jwks_url,
            "pass_public_keys_dir": self._queue_pass.keys.pass_public_keys,
            "pass_signing_key_file": self._queue_pass.keys.pass_signing_key,
            "ticket_key_file": self._queue_pass.keys.ticket_key,
            "drain_seconds": 5.0,
        }
        return values

    def _migrator(self, name: str) -> dict[str, Any]:
        passwords = self.stack.credentials
        if name in SERVICES:
            user, password = f"{name}_migrator", passwords.database_migrator[name]
        else:
            user, password = ADMIN, passwords.test_admin
        return {"database_migrator_user": user, "database_migrator_password": password}

    def _create_schema(self, schema: str) -> None:
        with self.root() as cursor:
            cursor.execute("SHOW DATABASES LIKE %s", (schema.replace("_", r"\_"),))
            if cursor.fetchone():
                cursor.execute(f"DROP DATABASE `{schema}`")
            cursor.execute(f"CREATE DATABASE `{schema}`")

    def _forget_keys(self) -> None:
        with redis_admin(self.ports, self.stack.credentials) as client:
            for key in client.scan_iter(f"*_{self.slot}:*", count=1000):
                client.unlink(key)


def _take_slot(folder: Path) -> tuple[TextIO, int]:
    """The lowest slot nobody holds; its lock ends with the process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        lock = (folder / str(number)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return lock, number
    raise AssertionError("count() has no end")
