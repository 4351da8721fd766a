"""Accounts that cannot reach another service's schema, key, channel or queue."""

from collections.abc import Iterator
from contextlib import contextmanager

import aio_pika
import pymysql
import pytest
import redis
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused, ProbableAuthenticationError

from local_stack import Stack, mariadb
from local_stack.layout import SERVICES

PAIRS = [(one, other) for one in SERVICES for other in SERVICES if one != other]
DENIED = 1142  # table privilege
DENIED_SCHEMA = 1044


@contextmanager
def cursor(
    stack: Stack, user: str, password: str, *, schema: str | None = None, replica: bool = False
) -> Iterator[pymysql.cursors.Cursor]:
    connection = pymysql.connect(
        host="127.0.0.1",
        port=stack.ports.mariadb_replica if replica else stack.ports.mariadb_primary,
        user=user,
        password=password,
        database=schema,
        autocommit=True,
    )
    try:
        with connection.cursor() as opened:
            yield opened
    finally:
        connection.close()


@pytest.fixture
def tables(stack: Stack) -> None:
    """A table in every schema."""
    for service in SERVICES:
        password = stack.credentials.database_migrator[service]
        with cursor(stack, f"{service}_migrator", password, schema=service) as own:
            own.execute("CREATE TABLE IF NOT EXISTS probe (id INT PRIMARY KEY)")
            own.execute("INSERT IGNORE INTO probe VALUES (1)")
    stack.wait_for_replica()


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(("service", "other"), PAIRS)
def test_a_services_accounts_do_not_reach_another_schema(
    stack: Stack, service: str, other: str
) -> None:
    passwords = stack.credentials
    for user, password in (
        (f"{service}_service", passwords.database[service]),
        (f"{service}_migrator", passwords.database_migrator[service]),
    ):
        with cursor(stack, user, password) as own:
            own.execute(f"SELECT id FROM {service}.probe")
            for statement in (
                f"SELECT id FROM {other}.probe",
                f"INSERT INTO {other}.probe VALUES (2)",
                f"DELETE FROM {other}.probe",
            ):
                with pytest.raises(pymysql.MySQLError) as denied:
                    own.execute(statement)
                assert denied.value.args[0] in {DENIED, DENIED_SCHEMA}


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_changes_rows_but_no_tables(stack: Stack, service: str) -> None:
    with cursor(stack, f"{service}_service", stack.credentials.database[service]) as own:
        own.execute(f"INSERT INTO {service}.probe VALUES (7)")
        own.execute(f"DELETE FROM {service}.probe WHERE id = 7")
        for statement in (
            f"CREATE TABLE {service}.more (id INT)",
            f"DROP TABLE {service}.probe",
            f"ALTER TABLE {service}.probe ADD COLUMN x INT",
            f"TRUNCATE {service}.probe",
        ):
            with pytest.raises(pymysql.MySQLError) as denied:
                own.execute(statement)
            assert denied.value.args[0] == DENIED


@pytest.mark.usefixtures("tables")
def test_the_audit_reads_everything_and_writes_nothing(stack: Stack) -> None:
    with cursor(stack, "audit", stack.credentials.audit) as audit:
        audit.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        for service in SERVICES:
            audit.execute(f"SELECT id FROM {service}.probe")
            assert audit.fetchall()
        audit.execute("COMMIT")
        for service in SERVICES:
            with pytest.raises(pymysql.MySQLError) as denied:
                audit.execute(f"DELETE FROM {service}.probe")
            assert denied.value.args[0] == DENIED


@pytest.mark.usefixtures("tables")
def test_nobody_writes_on_the_replica(stack: Stack) -> None:
    password = stack.credentials.database["queue"]
    with cursor(stack, "queue_service", password, replica=True) as own:
        own.execute("SELECT id FROM queue.probe")
        with pytest.raises(pymysql.MySQLError, match="read-only"):
            own.execute("INSERT INTO queue.probe VALUES (3)")


def test_there_is_no_account_without_a_name_or_a_password(stack: Stack) -> None:
    for which in (mariadb.PRIMARY, mariadb.REPLICA):
        with mariadb.root(stack.layout, which) as root:
            root.execute("SELECT COUNT(*) AS n FROM mysql.user WHERE User = ''")
            assert (root.fetchone() or {})["n"] == 0
    for user in ("", "root", "queue_service", "audit", "test-admin"):
        with pytest.raises(pymysql.MySQLError), cursor(stack, user, ""):
            pass


def test_tests_may_use_schemas_named_after_the_services(stack: Stack) -> None:
    passwords = stack.credentials
    with cursor(stack, "queue_migrator", passwords.database_migrator["queue"]) as own:
        own.execute("CREATE DATABASE queue_w0_probe")
        own.execute("CREATE TABLE queue_w0_probe.t (id INT PRIMARY KEY)")
    with cursor(stack, "queue_service", passwords.database["queue"]) as own:
        own.execute("INSERT INTO queue_w0_probe.t VALUES (1)")
    with (
        cursor(stack, "payment_service", passwords.database["payment"]) as other,
        pytest.raises(pymysql.MySQLError),
    ):
        other.execute("SELECT * FROM queue_w0_probe.t")
    with cursor(stack, "queue_migrator", passwords.database_migrator["queue"]) as own:
        own.execute("DROP DATABASE queue_w0_probe")


def redis_of(stack: Stack, service: str) -> redis.Redis:
    return redis.Redis(
        port=stack.ports.redis, username=service, password=stack.credentials.redis[service]
    )


@pytest.mark.parametrize(("service", "other"), PAIRS)
def test_redis_keys_and_channels_of_another_are_out_of_reach(
    stack: Stack, service: str, other: str
) -> None:
    with redis_of(stack, service) as own:
        own.set(f"{service}:probe", "1", ex=60)
        own.publish(f"{service}:probe", "1")
        assert own.eval("return redis.call('GET', KEYS[1])", 1, f"{service}:probe") == b"1"
        for forbidden in (
            ("GET", f"{other}:probe"),
            ("SET", f"{other}:probe", "1"),
            ("DEL", f"{other}:probe"),
            ("RENAME", f"{service}:probe", f"{other}:probe"),
            ("PUBLISH", f"{other}:probe", "1"),
            ("GET", f"{service}x:probe"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                own.execute_command(*forbidden)
        with pytest.raises(redis.exceptions.ResponseError, match="can't access"):
            own.eval(f"return redis.call('GET', '{other}:probe')", 0)


@pytest.mark.parametrize(
    "command",
    [
        "KEYS *",
        "SCAN 0",
        "RANDOMKEY",
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG GET *",
        "ACL LIST",
        "SCRIPT FLUSH",
        "FUNCTION FLUSH",
        "MONITOR",
        "SHUTDOWN",
        "CLIENT LIST",
        "PUBSUB CHANNELS",
        "SELECT 1",
    ],
)
def test_redis_commands_that_reach_beyond_the_own_keys_are_denied(
    stack: Stack, command: str
) -> None:
    with redis_of(stack, "queue") as own, pytest.raises(redis.exceptions.NoPermissionError):
        own.execute_command(*command.split())


def test_redis_has_no_account_without_a_password(stack: Stack) -> None:
    with (
        redis.Redis(port=stack.ports.redis, protocol=2) as nobody,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        nobody.ping()


async def connect(
    stack: Stack, service: str, password: str | None = None
) -> aio_pika.abc.AbstractConnection:
    return await aio_pika.connect(
        host="127.0.0.1",
        port=stack.ports.rabbitmq,
        virtualhost="stagedoor",
        login=service,
        password=stack.credentials.broker[service] if password is None else password,
    )


@pytest.mark.parametrize(("service", "other"), PAIRS)
async def test_the_broker_keeps_services_apart(stack: Stack, service: str, other: str) -> None:
    victim = await connect(stack, other)
    attacker = await connect(stack, service)
    async with victim, attacker:
        prepared = await victim.channel()
        queue = await prepared.declare_queue(f"{other}.probe", auto_delete=True)
        own = await attacker.channel()
        mine = await own.declare_queue(f"{service}.probe-{other}", auto_delete=True)
        # What it may: hear the facts of everybody.
        await mine.bind(f"{other}.events", routing_key="#")

        async def consume(channel: AbstractChannel) -> None:
            await (await channel.get_queue(queue.name, ensure=False)).get(timeout=5)

        async def declare(channel: AbstractChannel) -> None:
            await channel.declare_queue(f"{other}.mine")

        async def delete(channel: AbstractChannel) -> None:
            await channel.queue_delete(queue.name)

        async def publish(channel: AbstractChannel) -> None:
            exchange = await channel.get_exchange(f"{other}.events", ensure=False)
            await exchange.publish(aio_pika.Message(b"forged"), routing_key="payment.succeeded.v1")

        async def publish_to_queue(channel: AbstractChannel) -> None:
            await channel.default_exchange.publish(aio_pika.Message(b"x"), routing_key=queue.name)

        for attempt in (consume, declare, delete, publish):
            with pytest.raises(ChannelAccessRefused):
                await attempt(await attacker.channel())
        with pytest.raises(ChannelAccessRefused):
            await publish_to_queue(await attacker.channel())


async def test_the_broker_wants_a_password(stack: Stack) -> None:
    for user, password in (("guest", "guest"), ("queue", ""), ("payment", "wrong")):
        with pytest.raises(ProbableAuthenticationError):
            await connect(stack, user, password)
