"""What other services tell: performances, their sale, and the end of passes."""

from common.database import Database, Transaction
from common.events import AdmissionEnded, PerformanceSaleChanged, PerformanceScheduled
from common.inbox import first_time
from reservation_service.store import performances, reservations

SCHEDULED = "reservation.performance.scheduled.v1"
SALE_CHANGED = "reservation.performance.sale_changed.v1"
ADMISSION_ENDED = "reservation.admission.ended.v1"


class Inventory:
    """Builds the inventory; parts and changes may come in any order and more than once."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def schedule(self, part: PerformanceScheduled, message_id: str) -> None:
        """Put a part of a plan on the inventory; on sale once all parts are there."""

        async def work(tx: Transaction) -> None:
            if await first_time(tx, SCHEDULED, message_id):
                await performances.add_part(tx, part)

        await self._database.run(work)

    async def change_sale(self, change: PerformanceSaleChanged, message_id: str) -> None:
        """Open, pause, close or cancel a sale; a job cancels what a cancelled one has sold."""

        async def work(tx: Transaction) -> None:
            if await first_time(tx, SALE_CHANGED, message_id):
                await performances.change_sale(tx, change)

        await self._database.run(work)

    async def end_pass(self, ended: AdmissionEnded, message_id: str) -> None:
        """Refuse a pass from now on."""

        async def work(tx: Transaction) -> None:
            if await first_time(tx, ADMISSION_ENDED, message_id):
                await reservations.end_pass(
                    tx,
                    ended.pass_id,
                    user_id=ended.user_id,
                    concert_id=ended.concert_id,
                    cause=ended.cause.value,
                    ended_at=ended.ended_at,
                )

        await self._database.run(work)
