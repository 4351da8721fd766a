"""A service that exists only here: every table of `common`, and one of its own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from common.database import Database
from common.redis import Redis, create_redis
from common.settings import CommonSettings
from testkit import SettingsFor, eventually

PROBE_MIGRATIONS = Path(__file__).parent / "probe_migrations"


class ProbeSettings(CommonSettings):
    service_name: ClassVar[str] = "probe"


@pytest.fixture(scope="session")
def probe_settings(settings_for: SettingsFor) -> ProbeSettings:
    return settings_for(ProbeSettings, migrations=PROBE_MIGRATIONS)


@pytest.fixture
async def database(probe_settings: ProbeSettings) -> AsyncIterator[Database]:
    database = await Database.connect(probe_settings)
    await eventually(database.replica_is_fresh)
    yield database
    await database.close()


@pytest.fixture
async def redis(probe_settings: ProbeSettings) -> AsyncIterator[Redis]:
    client = create_redis(probe_settings)
    yield client
    await client.aclose()
