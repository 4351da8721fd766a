"""A process that decides lanes, for tests that kill or freeze it.

Each decided batch is appended to a file in one write, `lane number` a line, as a service's
transaction would; repeated decisions show as repeated lines, which an inbox would drop.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from common.broker import Broker, OrderedSubscription, lane_queue
from common.events import ReservationRequested
from common.settings import CommonSettings

LANES = 16


class Settings(CommonSettings):
    service_name = "reservation"


async def main(record: Path, seconds_a_batch: float) -> None:
    file = os.open(record, os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def subscription(lane: int) -> OrderedSubscription:
        async def decide(batch):
            await asyncio.sleep(seconds_a_batch)
            lines = "".join(f"{lane} {delivery.event.user_id}\n" for delivery in batch)
            os.write(file, lines.encode())

        return OrderedSubscription(
            ReservationRequested, decide, queues=[lane_queue(lane)], max_batch=20
        )

    broker = Broker(Settings())
    broker.subscribe([subscription(lane) for lane in range(LANES)])
    await broker.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print("ready", flush=True)  # noqa: T201 - the test waits for this line
    await stopped.wait()
    await broker.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
