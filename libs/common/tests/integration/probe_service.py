"""A service with nothing of its own, run as services are run: ``python probe_service.py serve``."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar

from fastapi import Depends, FastAPI, Response

from common.cli import run
from common.database import Database
from common.platform import Job, Platform, Role
from common.redis import Redis
from common.settings import CommonSettings
from common.web import CurrentUser, RateLimit, ResponseModel, Router, from_state, json_bytes

MIGRATIONS = Path(__file__).parent / "probe_migrations"
router = Router(tags=["probe"])
State = Annotated[Platform, Depends(from_state("platform"))]


class ProbeSettings(CommonSettings):
    service_name: ClassVar[str] = "probe"


class Clocks(ResponseModel):
    synchronised: bool
    off_by_seconds: float


@router.get("/clocks")
async def clocks(platform: State) -> Clocks:
    database: Database = platform.database
    async with database.primary() as session:
        now = await session.fetch_value("SELECT NOW(6)")
    off = (platform.clock.now() - now).total_seconds()
    return Clocks(synchronised=platform.clock.synchronised, off_by_seconds=abs(off))


@router.get("/redis")
async def ask_redis(platform: State) -> bool:
    redis: Redis = platform.redis
    return bool(await redis.ping())


@router.get("/limited", dependencies=[Depends(RateLimit("probe", quota=3, window_seconds=60))])
async def limited(user: CurrentUser) -> str:
    return user.user_id


@router.get("/echo/{text}", response_model=str)
async def echo(text: str, milliseconds: int = 0) -> Response:
    await asyncio.sleep(milliseconds / 1000)
    return json_bytes(f'"{text}"'.encode())


@router.get("/runs")
async def runs(platform: State) -> list[str]:
    """Which process ran the leased job, oldest run first."""
    names = await platform.redis.lrange(f"{platform.settings.redis_prefix}runs", 0, -1)
    return [name.decode() for name in names]


def create_app(settings: ProbeSettings, role: Role = "all") -> FastAPI:
    platform = Platform(settings, role, migrations=MIGRATIONS)

    async def count() -> None:
        await platform.redis.rpush(f"{settings.redis_prefix}runs", settings.instance)

    platform.add_job(Job("count", 0.05, count, lease=True))
    return platform.web_app(title="Probe", description="Probe.", routers=[router])


def main(arguments: list[str] | None = None) -> Any:
    return run("probe", ProbeSettings, create_app, MIGRATIONS, arguments)


if __name__ == "__main__":
    sys.exit(main())
