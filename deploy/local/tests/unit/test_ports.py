"""Ports: one free block a stack, remembered, never shared."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_stack import ports


@pytest.fixture(autouse=True)
def own_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims of this test only, not of the machine."""
    (tmp_path / "claims").mkdir()
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "claims"))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listening:
        yield listening


def stack_directory(tmp_path: Path, name: str) -> Path:
    directory = tmp_path / name
    directory.mkdir()
    return directory


def test_a_block_has_no_port_twice() -> None:
    chosen = ports.Ports(base=20_000, gateway=8080)
    assert len(set(chosen.all())) == len(chosen.all())
    assert all(20_000 <= port < 20_000 + ports.BLOCK_SIZE for port in chosen.all()[1:])


def test_blocks_stay_below_the_ports_of_outgoing_connections() -> None:
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert first_ephemeral >= ports.FIRST_BLOCK + ports.BLOCK_COUNT * ports.BLOCK_SIZE


def test_the_same_stack_gets_the_same_block(tmp_path: Path) -> None:
    directory = stack_directory(tmp_path, "one")
    first = ports.choose(directory, wants_demo_gateway=False)
    assert ports.choose(directory, wants_demo_gateway=False) == first


def test_a_block_claimed_by_a_stack_that_is_down_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every stack begins its search at the same block.
    monkeypatch.setattr(ports.hashlib, "sha256", lambda _: _Digest())
    one, two = stack_directory(tmp_path, "one"), stack_directory(tmp_path, "two")
    first = ports.choose(one, wants_demo_gateway=False)
    ports.remember(first, one / "stack.json")
    second = ports.choose(two, wants_demo_gateway=False)
    assert not set(first.all()) & set(second.all())


def test_the_claim_of_a_stack_that_is_gone_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports.hashlib, "sha256", lambda _: _Digest())
    gone, fresh = tmp_path / "gone", stack_directory(tmp_path, "fresh")
    first = ports.choose(gone, wants_demo_gateway=False)
    assert ports.choose(fresh, wants_demo_gateway=False) == first


def test_a_block_with_one_port_taken_is_passed_over(
    tmp_path: Path, listener: socket.socket
) -> None:
    directory = stack_directory(tmp_path, "one")
    first = ports.choose(directory, wants_demo_gateway=False)
    listener.bind(("127.0.0.1", first.redis))
    listener.listen()
    assert ports.choose(directory, wants_demo_gateway=False).base != first.base


def test_a_listener_on_every_address_counts(listener: socket.socket) -> None:
    listener.bind(("0.0.0.0", 0))
    listener.listen()
    assert not ports.is_free(listener.getsockname()[1])


def test_the_demo_gets_8080_unless_something_is_there(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener.bind(("127.0.0.1", 0))
    number = listener.getsockname()[1]
    directory = stack_directory(tmp_path, "demo")
    monkeypatch.setattr(ports, "DEMO_GATEWAY", number)
    listener.listen()
    assert ports.choose(directory, wants_demo_gateway=True).gateway != number
    listener.close()
    assert ports.choose(directory, wants_demo_gateway=True).gateway == number


def test_the_choice_is_remembered(tmp_path: Path) -> None:
    file = tmp_path / "stack.json"
    assert ports.recall(file) is None
    chosen = ports.Ports(base=20_032, gateway=8080)
    ports.remember(chosen, file)
    assert ports.recall(file) == chosen


class _Digest:
    def digest(self) -> bytes:
        return bytes(32)
