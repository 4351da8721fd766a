"""One block of ports a stack, chosen once, free when chosen, claimed by nobody else.

Blocks lie below the kernel's range for outgoing connections, so that no client of anything on
the machine can occupy one of them by chance.
"""

import fcntl
import hashlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_stack.errors import StackError
from local_stack.layout import FAKES, REPLICAS, SERVICES

BLOCK_SIZE = 32
FIRST_BLOCK = 20_000
BLOCK_COUNT = 390  # up to 32,479: below the ephemeral range (32,768)
POLL_SECONDS = 0.05
DEMO_GATEWAY = 8080
"""Where people look for the gateway of the stack ``demo``."""

_OFFSETS = {
    name: offset
    for offset, name in enumerate(
        (
            "gateway",
            "mariadb-primary",
            "mariadb-replica",
            "redis",
            "rabbitmq",
            "rabbitmq-management",
            "rabbitmq-distribution",
            "epmd",
            "kafka",
            *FAKES,
            *(f"{service}-service-{n}" for service in SERVICES for n in range(1, REPLICAS + 1)),
        )
    )
}


@dataclass(frozen=True)
class Ports:
    """The ports of one stack, all on 127.0.0.1."""

    base: int
    gateway: int

    def of(self, part: str) -> int:
        """Port of a part, such as ``queue-service-1`` or ``rabbitmq-management``."""
        return self.gateway if part == "gateway" else self.base + _OFFSETS[part]

    @property
    def mariadb_primary(self) -> int:
        """Where writes and decisions go."""
        return self.of("mariadb-primary")

    @property
    def mariadb_replica(self) -> int:
        """Where reads that may be a moment old go."""
        return self.of("mariadb-replica")

    @property
    def redis(self) -> int:
        """Redis."""
        return self.of("redis")

    @property
    def rabbitmq(self) -> int:
        """RabbitMQ, AMQP 0-9-1."""
        return self.of("rabbitmq")

    @property
    def rabbitmq_management(self) -> int:
        """RabbitMQ's management API (HTTP)."""
        return self.of("rabbitmq-management")

    @property
    def kafka(self) -> int:
        """The Kafka mock cluster's bootstrap address."""
        return self.of("kafka")

    def replica(self, service: str, number: int) -> int:
        """HTTP port of the numbered replica (from 1) of a service (``queue``, …)."""
        return self.of(f"{service}-service-{number}")

    def all(self) -> list[int]:
        """Every port that the stack may listen on."""
        return [self.of(part) for part in _OFFSETS]


def is_free(port: int) -> bool:
    """Whether nothing listens on ``127.0.0.1:port``."""
    with socket.socket() as probe:
        # Without this option a connection in TIME_WAIT would count as a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def become_free(ports: Ports, timeout_seconds: float) -> bool:
    """Wait until nothing listens on any of the ports; False when that did not happen in time."""
    deadline = time.monotonic() + timeout_seconds
    while not all(is_free(port) for port in ports.all()):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def choose(stack_directory: Path, *, wants_demo_gateway: bool) -> Ports:
    """Claim a free block for this stack.

    Args:
        stack_directory: identifies the stack; a block claimed by it before is claimed again.
        wants_demo_gateway: try port 8080 for the gateway first.

    Raises:
        StackError: every block is taken.
    """
    start = int.from_bytes(hashlib.sha256(str(stack_directory).encode()).digest()[:4], "big")
    with _claims() as claims:
        for step in range(BLOCK_COUNT):
            base = FIRST_BLOCK + (start + step) % BLOCK_COUNT * BLOCK_SIZE
            ports = Ports(base=base, gateway=base)
            claim = claims / str(base)
            if _claimed_by_another(claim, stack_directory):
                continue
            if not all(is_free(port) for port in ports.all()):
                continue
            claim.write_text(str(stack_directory))
            if wants_demo_gateway and is_free(DEMO_GATEWAY):
                return Ports(base=base, gateway=DEMO_GATEWAY)
            return ports
    raise StackError("no free block of ports between 20000 and 32480 on 127.0.0.1")


def remember(ports: Ports, stack_file: Path) -> None:
    """Write the choice to ``stack.json``, atomically: a torn file would lose the block."""
    fresh = stack_file.with_suffix(".tmp")
    fresh.write_text(json.dumps({"base": ports.base, "gateway": ports.gateway}) + "\n")
    fresh.replace(stack_file)


def recall(stack_file: Path) -> Ports | None:
    """What an earlier start chose, or None."""
    try:
        stored = json.loads(stack_file.read_text())
    except FileNotFoundError:
        return None
    return Ports(base=int(stored["base"]), gateway=int(stored["gateway"]))


@contextmanager
def _claims() -> Iterator[Path]:
    """The folder of claims of this machine and user, under a lock.

    A probe alone is not enough: between probing and listening another stack could choose the
    same block.
    """
    folder = Path(tempfile.gettempdir()) / f"stagedoor-{os.getuid()}-ports"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _claimed_by_another(claim: Path, stack_directory: Path) -> bool:
    """Whether a stack that still exists holds the claim."""
    try:
        owner = Path(claim.read_text())
    except FileNotFoundError:
        return False
    if owner == stack_directory:
        return False
    held = recall(owner / "stack.json")
    return held is not None and str(held.base) == claim.name
