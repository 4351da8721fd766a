"""Start, stop, and what a stack survives."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aio_pika
import psutil
import pytest

from local_stack import Stack, StackError, mariadb, processes, redis_server
from local_stack.layout import INFRASTRUCTURE
from local_stack.supervisor import STACK_VARIABLE

LISTEN = """\
import socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
sys.stdin.read()
"""


def within(seconds: float, check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.05)


def registries(stack: Stack) -> list[Path]:
    """RabbitMQ's lists of quorum queues."""
    return list((stack.layout.data / "rabbitmq").glob("mnesia/*/quorum/*/names.dets"))


def pids(stack: Stack) -> dict[str, int]:
    return {name: stack.pid_of(name) for name in INFRASTRUCTURE}


def test_starting_twice_leaves_everything_as_it_is(stack: Stack) -> None:
    before = pids(stack)
    stack.up(infrastructure_only=True)
    assert pids(stack) == before


def test_databases_are_as_durable_and_strict_as_the_design_asks(stack: Stack) -> None:
    wanted = {
        "sync_binlog": 1,
        "innodb_flush_log_at_trx_commit": 1,
        "tx_isolation": "READ-COMMITTED",
        "innodb_lock_wait_timeout": 2,
        "innodb_rollback_on_timeout": 1,
        "time_zone": "+00:00",
        "gtid_strict_mode": 1,
        "binlog_format": "ROW",
    }
    for which in (mariadb.PRIMARY, mariadb.REPLICA):
        with mariadb.root(stack.layout, which) as root:
            root.execute("SELECT " + ", ".join(f"@@global.{n} AS {n}" for n in wanted))
            assert root.fetchone() == wanted


def test_the_replica_follows_by_gtid(stack: Stack) -> None:
    with mariadb.root(stack.layout, mariadb.PRIMARY) as root:
        root.execute("CREATE DATABASE IF NOT EXISTS lifecycle")
        root.execute("CREATE OR REPLACE TABLE lifecycle.t (id INT PRIMARY KEY)")
        root.execute("INSERT INTO lifecycle.t VALUES (42)")
    stack.wait_for_replica()
    with mariadb.root(stack.layout, mariadb.REPLICA) as root:
        root.execute("SELECT id FROM lifecycle.t")
        assert root.fetchall() == [{"id": 42}]
        state = mariadb.replica_state(stack.layout, root)
        assert state
        assert state.by_gtid


def test_a_killed_program_comes_back(stack: Stack) -> None:
    before = stack.pid_of("redis")
    os.kill(before, signal.SIGKILL)
    within(15, lambda: stack.status_of("redis").running and stack.pid_of("redis") != before)
    within(15, lambda: redis_server.answers(stack.ports, stack.credentials))


def test_a_frozen_program_can_be_restarted(stack: Stack) -> None:
    before = stack.pid_of("kafka")
    os.kill(before, signal.SIGSTOP)
    stack.restart("kafka")
    assert stack.pid_of("kafka") != before


def test_an_unknown_program_is_named(stack: Stack) -> None:
    with pytest.raises(StackError, match="no program 'nonsense'"):
        stack.pid_of("nonsense")


async def test_data_survive_kill_9_of_everything(stack: Stack) -> None:
    broker = await aio_pika.connect(
        port=stack.ports.rabbitmq,
        virtualhost="stagedoor",
        login="queue",
        password=stack.credentials.broker["queue"],
    )
    async with broker:
        channel = await broker.channel()
        queue = await channel.declare_queue(
            "queue.survivor", durable=True, arguments={"x-queue-type": "quorum"}
        )
        exchange = await channel.declare_exchange("queue.probe", durable=True)
        await queue.bind(exchange, "x")
        await exchange.publish(
            aio_pika.Message(b"still here", delivery_mode=aio_pika.DeliveryMode.PERSISTENT),
            routing_key="x",
        )
    # RabbitMQ 3.10 hands the registration of a new quorum queue to the kernel within 3 s only.
    within(10, lambda: any(b"queue.survivor" in names.read_bytes() for names in registries(stack)))
    with mariadb.root(stack.layout, mariadb.PRIMARY) as root:
        root.execute("CREATE DATABASE IF NOT EXISTS lifecycle")
        root.execute("CREATE OR REPLACE TABLE lifecycle.survivor (id INT PRIMARY KEY)")
        root.execute("INSERT INTO lifecycle.survivor VALUES (1)")
    with redis_server.admin(stack.ports, stack.credentials) as client:
        client.set("queue:survivor", "still here")

    before = stack.ports
    processes.end_all(stack.directory)
    assert not stack.alive()
    stack.up(infrastructure_only=True)

    assert stack.ports == before
    stack.wait_for_replica()
    for which in (mariadb.PRIMARY, mariadb.REPLICA):
        with mariadb.root(stack.layout, which) as root:
            root.execute("SELECT id FROM lifecycle.survivor")
            assert root.fetchall() == [{"id": 1}]
    with redis_server.admin(stack.ports, stack.credentials) as client:
        assert client.get("queue:survivor") == b"still here"
    broker = await aio_pika.connect(
        port=stack.ports.rabbitmq,
        virtualhost="stagedoor",
        login="queue",
        password=stack.credentials.broker["queue"],
    )
    async with broker:
        channel = await broker.channel()
        message = await (await channel.get_queue("queue.survivor")).get(timeout=10)
        assert message.body == b"still here"
        await message.ack()
        await channel.queue_delete("queue.survivor")


def test_a_dead_supervisors_orphans_are_ended_before_the_next_start(stack: Stack) -> None:
    stack.start("gateway")
    orphans = pids(stack) | {"gateway": stack.pid_of("gateway")}
    for process in processes.of_stack(stack.directory):
        if "supervisor.supervisord" in " ".join(process.cmdline()):
            process.kill()
            process.wait(10)
    assert not stack.alive()
    assert psutil.pid_exists(orphans["mariadb-primary"])
    said: list[str] = []
    stack.up(infrastructure_only=True, report=said.append)
    assert any("stray" in line for line in said)
    assert not set(orphans.values()) & set(pids(stack).values())
    assert not [pid for pid in orphans.values() if psutil.pid_exists(pid)]


def test_down_leaves_nothing_running(stack: Stack) -> None:
    ports = stack.ports
    stray = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env={**os.environ, STACK_VARIABLE: str(stack.directory)},
    )
    stack.down()
    stray.wait(5)
    assert processes.of_stack(stack.directory) == []
    connections = {
        c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN
    }
    assert not connections & set(ports.all())
    assert not stack.layout.run.exists()
    assert stack.status() == []
    stack.down()


@contextmanager
def taken(port: int) -> Iterator[None]:
    """Somebody else listens on the port."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as listener:
        assert listener.stdout
        assert listener.stdout.readline() == b"listening\n"
        yield
        listener.communicate()


def test_the_command_line_says_what_is_even_when_ports_were_taken(own_stack: Stack) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "local_stack", *arguments, "--stack", own_stack.name],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    own_stack.down()
    down = run("status")
    assert (down.returncode, "is down" in down.stdout) == (1, True)
    before = own_stack.ports
    with taken(before.redis):
        up = run("up", "--infrastructure-only")
    assert up.returncode == 0, up.stderr
    assert own_stack.ports.base != before.base
    assert "are taken" in up.stdout
    assert str(own_stack.ports.redis) in up.stdout
    # The replica follows the primary to its new port.
    own_stack.wait_for_replica()
    shown = run("status")
    assert "mariadb-primary" in shown.stdout
    assert "RUNNING" in shown.stdout
    env = run("env", "queue")
    assert f"export HTTP_PORT={own_stack.ports.replica('queue', 1)}" in env.stdout
    assert run("down", "--quiet").stdout == ""
