"""A relay in a process of its own, so that it can be frozen and killed.

Arguments: destination, Redis list. "Publishes" by appending ids to the list, slowly enough that a
signal hits it in the middle of a batch.
"""

import asyncio
import sys
from typing import ClassVar

from common.redis import create_redis
from common.relay import OutboxRow, Relay
from common.settings import CommonSettings
from testkit import eventually


class ProbeSettings(CommonSettings):
    service_name: ClassVar[str] = "probe"


async def main() -> None:
    destination, key = sys.argv[1:]
    settings = ProbeSettings()  # type: ignore[call-arg] # from the environment
    redis = create_redis(settings)

    async def publish(rows: list[OutboxRow]) -> list[int]:
        for row in rows:
            await redis.rpush(key, row.subject)
            await asyncio.sleep(0.002)
        return [row.id for row in rows]

    relay = Relay(settings, destination, publish, redis=redis, batch_rows=20)
    await relay.start()
    await eventually(lambda: relay.active, 60)
    sys.stdout.write("active\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


asyncio.run(main())
