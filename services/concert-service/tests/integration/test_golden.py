"""Golden events: what concert-service hears is what everybody agreed on, and a field more."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.broker import Delivery
from common.database import Database, Transaction
from common.envelope import Envelope
from common.events import InventoryChanged, SaleState
from common.ids import new_id
from concert_service.consumers import subscriptions
from concert_service.domain.seating import PlannedSeat
from concert_service.service.projecting import Projector
from concert_service.store import concerts
from concert_service.store.concerts import ConcertRow, PerformanceRow

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


async def test_inventory_changed(
    shop: Any, database: Database, projector: Projector, repository: Path
) -> None:
    path = repository / "libs/common/tests/golden/inventory.changed.v1.json"
    document = json.loads(path.read_text())
    performance_id, concert_id = document["performance_id"], document["concert_id"]
    seat_ids = [seat["seat_id"] for seat in document["seats"]]

    async def create(tx: Transaction) -> None:
        seats = [
            (i, PlannedSeat(n, str(n), str(n), "Floor", 1, "0.0")) for n, i in enumerate(seat_ids)
        ]
        row = PerformanceRow(performance_id, concert_id, NOW, SaleState.OPEN, None, 1, 2, 2)
        await concerts.insert_drafts(tx, [performance_id], NOW)
        await concerts.insert_seats(tx, performance_id, seats)
        await concerts.insert_concert(
            tx, ConcertRow(concert_id, "T", "A", "V", "KRW", 4, 300, "[]", NOW)
        )
        await concerts.publish_drafts(tx, [row])

    await database.run(create)
    (subscription,) = subscriptions(projector)
    assert subscription.event is InventoryChanged
    event = InventoryChanged.model_validate(document | {"added_later": 1})
    envelope = Envelope(new_id(), event.type, "reservation", event.subject, NOW)
    await subscription.handle_batch([Delivery(event, envelope)])
    got = await shop.availability(performance_id)
    assert (got["version"], got["seats_left"], got["unavailable"]) == (1, 0, seat_ids)
