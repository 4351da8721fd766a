"""The fixtures every test may use; registered by the root ``conftest.py``."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from local_stack import Stack
from testkit.identity import Bearer, QueuePass
from testkit.infrastructure import STACK, Infrastructure, SettingsFor, StackUse
from testkit.spy import Published, Spy, spying

_use = pytest.StashKey[StackUse]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Announce the session, so that no other one stops the stack under it."""
    use = StackUse(Stack(STACK))
    use.begin()
    session.config.stash[_use] = use


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the stack, if tests started it and nobody else uses it. A worker leaves that."""
    is_worker = hasattr(session.config, "workerinput")
    if use := session.config.stash.get(_use, None):
        use.end(stop_if_last=not is_worker)


@pytest.fixture(scope="session")
def bearer(tmp_path_factory: pytest.TempPathFactory) -> Bearer:
    """``bearer(user_id, roles=())``: headers with a token of the test issuer."""
    return Bearer(tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="session")
def queue_pass(tmp_path_factory: pytest.TempPathFactory) -> QueuePass:
    """``queue_pass(user_id, concert_id, **claims)``: headers with a pass."""
    return QueuePass(tmp_path_factory.mktemp("passes"))


@pytest.fixture(scope="session")
def infrastructure(
    request: pytest.FixtureRequest, bearer: Bearer, queue_pass: QueuePass
) -> Iterator[Infrastructure]:
    """The real servers: MariaDB primary and replica, Redis, RabbitMQ, the Kafka mock."""
    request.config.stash[_use].start()
    infrastructure = Infrastructure(Stack(STACK), bearer, queue_pass)
    yield infrastructure
    infrastructure.close()


@pytest.fixture(scope="session")
def settings_for(infrastructure: Infrastructure) -> SettingsFor:
    """``settings_for(ServiceSettings, **overrides)``: on this process's corner of the servers."""
    return infrastructure.settings_for


@pytest.fixture(scope="session")
def published(infrastructure: Infrastructure) -> Published:
    """See what is published on an exchange from now on; see `testkit.spy.Published`."""

    def spy_on(exchange: str, routing_key: str = "#") -> AbstractAsyncContextManager[Spy]:
        return spying(infrastructure.broker_url, exchange, routing_key)

    return spy_on


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the clone."""
    return Path(__file__).resolve().parents[4]
