"""What a fan can do: stand in line, ask, leave."""

import asyncio
import random
from dataclasses import dataclass, replace
from typing import Any

from common.errors import DependencyUnavailable
from common.events import AdmissionEndCause
from common.ids import new_id
from common.logging import get_logger
from common.security import Pass, PassSigner, PassVerifier
from queue_service.domain import Claim, Look, NoTicket, Place, TicketState, poll_after
from queue_service.service.door import Door
from queue_service.service.recovery import Recovery
from queue_service.store import RoomStore
from queue_service.tickets import Tickets

_ENTER_SECONDS = 1.0
"""How long a join waits to be let in at once; the place is kept whatever comes of it."""
_NEAR = 500
"""Only who is this near the front can enter in the turn a join takes."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """A place with what its owner is given: signed ticket, pause until the next poll, pass."""

    concert_id: str
    place: Place
    token: str
    poll_after_seconds: float
    pass_token: str | None


class Line:
    """The fan's side of the room."""

    def __init__(
        self,
        *,
        rooms: RoomStore,
        recovery: Recovery,
        door: Door,
        tickets: Tickets,
        signer: PassSigner,
        passes: PassVerifier,
        lease_seconds: float,
    ) -> None:
        self._rooms = rooms
        self._recovery = recovery
        self._door = door
        self._tickets = tickets
        self._signer = signer
        self._passes = passes
        self._lease_seconds = lease_seconds

    async def join(self, concert_id: str, user_id: str, token: str | None) -> Seen:
        """The caller's one place in this queue, new or the same; inside at once if possible.

        Raises:
            QueueUnknown, QueueClosed
        """
        claim = self._tickets.read(token, concert_id=concert_id, user_id=user_id)
        ticket_id = new_id()
        place = await self._recovery.in_room(
            concert_id, lambda: self._rooms.join(concert_id, user_id, ticket_id, claim)
        )
        is_new = place.is_new
        if _may_enter_now(place):
            place = await self._enter(concert_id, user_id) or place
        return self._seen(concert_id, user_id, replace(place, is_new=is_new))

    async def _enter(self, concert_id: str, user_id: str) -> Place | None:
        try:
            async with asyncio.timeout(_ENTER_SECONDS):
                await self._door.attend(concert_id)
                return await self._rooms.poll(concert_id, user_id, None)
        except (DependencyUnavailable, TimeoutError):
            log.info("enters-later", concert_id=concert_id)
            return None

    async def poll(self, concert_id: str, user_id: str, token: str | None) -> Seen:
        """A heartbeat and the caller's place, restored by the signed ticket if need be.

        Raises:
            QueueUnknown, NoTicket
        """
        claim = self._tickets.read(token, concert_id=concert_id, user_id=user_id)
        place = await self._recovery.in_room(
            concert_id, lambda: self._rooms.poll(concert_id, user_id, claim)
        )
        if place is None:
            raise NoTicket(concert_id)
        return self._seen(concert_id, user_id, place)

    async def leave(self, concert_id: str, user_id: str) -> None:
        """Give the place up, or end the admission; again: nothing happens.

        Raises:
            QueueUnknown
        """
        leaving = await self._recovery.in_room(
            concert_id,
            lambda: self._rooms.leave(concert_id, user_id, self._lease_seconds),
        )
        if leaving.is_entering:
            await self._door.attend(concert_id)
        elif leaving.pass_id is not None:
            await self._door.end(concert_id, [leaving.pass_id], AdmissionEndCause.LEFT)

    async def look(self, concert_id: str) -> Look:
        """The queue as anyone may see it.

        Raises:
            QueueUnknown
        """
        return await self._recovery.in_room(concert_id, lambda: self._rooms.look(concert_id))

    def public_keys(self) -> dict[str, Any]:
        """Every key a pass may be signed with, the present one included, as a JWK set."""
        keys = self._signer.public_jwks()["keys"] + self._passes.public_jwks()["keys"]
        return {"keys": list({key["kid"]: key for key in keys}.values())}

    def _seen(self, concert_id: str, user_id: str, place: Place) -> Seen:
        claim = Claim(concert_id, user_id, place.ticket_id, place.number, place.epoch)
        pass_token = None
        if place.state is TicketState.ADMITTED and place.expires_at is not None:
            admitted = Pass(user_id, concert_id, place.ticket_id, place.expires_at)
            pass_token = self._signer.sign(admitted)
        return Seen(
            concert_id=concert_id,
            place=place,
            token=self._tickets.sign(claim),
            poll_after_seconds=poll_after(place, random.random()),
            pass_token=pass_token,
        )


def _may_enter_now(place: Place) -> bool:
    return place.state is TicketState.WAITING and place.room_is_free and place.people_ahead < _NEAR
