"""Every process that runs tests has a corner of the servers to itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import aio_pika
import httpx
import jwt
import pytest
from fastapi import FastAPI

from common.clock import Clock
from common.ids import new_id
from common.redis import create_redis
from common.security import BearerVerifier, KeySet, PassVerifier
from common.settings import CommonSettings
from testkit import Bearer, Infrastructure, Published, QueuePass, SettingsFor, environment, running

REVISION = """
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE TABLE t (id INT NOT NULL, PRIMARY KEY (id)) ENGINE=InnoDB")
"""


class CornerSettings(CommonSettings):
    service_name: ClassVar[str] = "corner"


@pytest.fixture(scope="module")
def settings(settings_for: SettingsFor, tmp_path_factory: pytest.TempPathFactory) -> CornerSettings:
    folder = tmp_path_factory.mktemp("revisions")
    (folder / "versions").mkdir()
    (folder / "versions" / "0001.py").write_text(REVISION)
    return settings_for(CornerSettings, migrations=folder, http_port=1234)


async def test_settings_name_the_slot(
    settings: CornerSettings, infrastructure: Infrastructure
) -> None:
    slot = infrastructure.slot
    assert settings.database_schema == f"corner_{slot}"
    assert settings.redis_prefix == f"corner_{slot}:"
    assert settings.broker_url.endswith(f"/{infrastructure.vhost}")
    assert settings.http_port == 1234


async def test_the_schema_is_migrated_once(
    settings: CornerSettings, settings_for: SettingsFor, infrastructure: Infrastructure
) -> None:
    with infrastructure.root() as cursor:
        cursor.execute(f"INSERT INTO `{settings.database_schema}`.t VALUES (1)")
    again = settings_for(CornerSettings, migrations=Path("/nowhere"), http_port=1)
    assert again.http_port == 1
    with infrastructure.root() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM `{settings.database_schema}`.t")
        assert cursor.fetchone() == (1,)


async def test_another_session_gets_another_slot(
    infrastructure: Infrastructure, bearer: Bearer, queue_pass: QueuePass
) -> None:
    other = Infrastructure(infrastructure.stack, bearer, queue_pass)
    try:
        assert other.slot != infrastructure.slot
    finally:
        other.close()


async def test_sweeping_a_slot_leaves_the_others_alone(
    infrastructure: Infrastructure, settings: CornerSettings
) -> None:
    redis = create_redis(settings)
    ours, theirs = f"corner_{infrastructure.slot}:left", f"corner_{infrastructure.slot}9:kept"
    await redis.set(ours, "x", ex=60)
    await redis.set(theirs, "x", ex=60)
    infrastructure._forget_keys()
    assert await redis.exists(ours) == 0
    assert await redis.exists(theirs) == 1
    await redis.aclose()


async def test_a_child_process_finds_the_same_settings(
    settings: CornerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    found = CornerSettings()  # type: ignore[call-arg] # from the environment
    assert found.model_dump(exclude={"instance"}) == settings.model_dump(exclude={"instance"})


async def test_tokens_and_passes_verify(
    settings: CornerSettings, bearer: Bearer, queue_pass: QueuePass
) -> None:
    clock, concert = Clock(), new_id()
    verifier = BearerVerifier(
        KeySet(settings.identity_jwks_url, clock),
        issuer=settings.identity_issuer,
        audience=settings.identity_audience,
        clock=clock,
    )
    identity = await verifier.verify(bearer("fan", ["admin"])["Authorization"].split()[1])
    assert (identity.user_id, identity.is_admin) == ("fan", True)
    token = queue_pass("fan", concert, pass_id="p")["Queue-Pass"]
    admitted = PassVerifier(settings.pass_public_keys_dir, clock).verify(token)
    assert (admitted.user_id, admitted.concert_id, admitted.pass_id) == ("fan", concert, "p")
    bare = bearer.token("fan", exp=None)
    assert "exp" not in jwt.decode(bare, options={"verify_signature": False})


async def test_an_application_runs_and_is_ready(settings: CornerSettings) -> None:
    state: list[str] = []

    def create_app(settings: CornerSettings, role: str = "all") -> FastAPI:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            state.append("up")
            yield
            state.append("down")

        app = FastAPI(lifespan=lifespan)
        asked = 0

        @app.get("/health/ready")
        async def ready() -> dict[str, str]:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise RuntimeError
            return {"role": role, "service": settings.service_name}

        return app

    async with running(create_app, settings, role="api") as client:
        answer = await client.get("/health/ready")
        assert isinstance(client, httpx.AsyncClient)
        assert answer.json() == {"role": "api", "service": "corner"}
    assert state == ["up", "down"]


async def test_the_spy_sees_what_is_published(
    infrastructure: Infrastructure, published: Published
) -> None:
    connection = await aio_pika.connect(infrastructure.broker_url)
    async with connection, published("payment.events") as spy:
        channel = await connection.channel()
        exchange = await channel.get_exchange("payment.events")
        message = aio_pika.Message(b'{"a": 1}', message_id="m", headers={"h": "v"}, delivery_mode=2)
        await exchange.publish(message, "payment.made.v1")
        seen = await spy.first(lambda message: message.message_id == "m")
    assert seen.routing_key == "payment.made.v1"
    assert seen.json() == {"a": 1}
    assert seen.headers == {"h": "v"}
    assert seen.persistent
