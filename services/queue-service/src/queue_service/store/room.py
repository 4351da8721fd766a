"""The rooms in Redis: every call is one script and one round trip, and does no harm twice."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any
from uuid import UUID

from common.redis import Argument, Redis, Script
from queue_service.domain import (
    CAUSES,
    Claim,
    Debt,
    Inside,
    Look,
    Performance,
    Place,
    Policy,
    QueueClosed,
    QueueState,
    Receipt,
    Sale,
    Slot,
    TicketState,
    Turn,
    opening,
    rest_of_undelivered,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SHARED = "room"
_ROWS_A_PART = 1_000
_RESTORE_GRACES = 3
"""Grace times for which a place lost with Redis can be had back by its signed ticket."""
TURN_LIMIT = 500
_SCAN_LIMIT = 500
_BLIND_MS = 5_000


class RoomMissing(Exception):  # noqa: N818 - a state of Redis, never shown to a caller
    """Redis holds no room of this concert: never built, or its data was lost."""


class RoomRestarted(Exception):  # noqa: N818 - as above
    """The Redis server restarted since the room was last held against MySQL."""


class NumbersUsedUp(Exception):  # noqa: N818 - as above
    """Every reserved number is handed out; reserve more and repeat."""


def read_sources() -> dict[str, str]:
    """The scripts by name, each with what all share put in front."""
    files = {
        entry.name.removesuffix(".lua"): entry.read_text()
        for entry in resources.files("queue_service").joinpath("lua").iterdir()
        if entry.name.endswith(".lua")
    }
    shared = files.pop(_SHARED)
    return {name: f"{shared}\n{text}" for name, text in files.items()}


@dataclass(frozen=True, slots=True)
class Leaving:
    """The admission that has to be ended, if there is one."""

    pass_id: str | None
    is_entering: bool
    """Its row is being written by somebody: it can be ended only after that."""


@dataclass(frozen=True, slots=True)
class RoomFrame:
    """What a room is rebuilt with beside those inside."""

    epoch: int
    last: int
    """Numbers up to this one may be in somebody's hands; new ones go on behind it."""
    ceiling: int
    sequence: int
    seed: str
    opened: bool
    drawn_base: int | None
    drawn_count: int | None
    is_fresh: bool
    """Never built before: nobody can be missing, so nobody is waited for."""
    hold_seconds: float
    policy: Policy
    sale: Sale


class RoomStore:
    """Every touch of Redis by the waiting room.

    Args:
        client: whose replies are bytes.
        prefix: of every key, e.g. ``queue:``.
        sources: the scripts' texts (`read_sources`).
    """

    def __init__(self, client: Redis, prefix: str, sources: Mapping[str, str]) -> None:
        self._prefix = prefix
        self._scripts = {name: Script(client, text) for name, text in sources.items()}

    async def join(
        self, concert_id: str, user_id: str, ticket_id: str, claim: Claim | None
    ) -> Place:
        """The caller's place, a new one if there is none.

        Raises:
            QueueClosed, RoomMissing, NumbersUsedUp
        """
        reply = await self._run("join", concert_id, user_id, UUID(ticket_id).bytes, *_claim(claim))
        if reply[0] == b"closed":
            raise QueueClosed(concert_id)
        if reply[0] == b"numbers":
            raise NumbersUsedUp(concert_id)
        return _place(reply)

    async def poll(self, concert_id: str, user_id: str, claim: Claim | None) -> Place | None:
        """A heartbeat; the caller's place, restored by ``claim`` if the room forgot it."""
        reply = await self._run("poll", concert_id, user_id, *_claim(claim))
        return None if reply[0] == b"none" else _place(reply)

    async def leave(self, concert_id: str, user_id: str, lease_seconds: float) -> Leaving:
        """Give the place up; what is left to do for a slot.

        Args:
            concert_id: which queue.
            user_id: whose place.
            lease_seconds: how long the caller may take to end an admission.
        """
        reply = await self._run("leave", concert_id, user_id, int(lease_seconds * 1000))
        if reply[0] not in {b"inside", b"entering"}:
            return Leaving(None, is_entering=False)
        pass_id = str(UUID(bytes=reply[1]))
        return Leaving(pass_id, is_entering=reply[0] == b"entering")

    async def look(self, concert_id: str) -> Look:
        """The room as anyone may see it."""
        reply = await self._run("look", concert_id)
        return Look(
            now=_moment(reply[1]),
            state=QueueState(reply[2].decode()),
            serving_number=reply[3],
            waiting=reply[4],
            rate_per_minute=_known(reply[5]),
            seats_left=_known(reply[6]),
            inside=reply[7],
            version=reply[8],
            epoch=reply[9],
            opens_at=_maybe_moment(reply[10]),
            last_number=reply[11],
        )

    async def turn(self, concert_id: str, lease_seconds: float) -> Turn:
        """Open, admit, and take over what is owed to MySQL for ``lease_seconds``.

        Raises:
            RoomMissing, RoomRestarted
        """
        reply = await self._run(
            "turn", concert_id, int(lease_seconds * 1000), TURN_LIMIT, _SCAN_LIMIT, _BLIND_MS
        )
        if reply[0] == b"restarted":
            raise RoomRestarted(concert_id)
        return Turn(
            epoch=reply[2],
            version=reply[3],
            numbers_left=reply[4],
            more=reply[5] == 1,
            short_of_numbers=reply[6] == 1,
            opened=reply[7] == 1,
            drawn_base=_known(reply[8]),
            drawn_count=_known(reply[9]),
            waiting=reply[10],
            inside=reply[11],
            slots=tuple(_slot(item) for item in reply[12]),
        )

    async def settle(self, concert_id: str, receipts: Iterable[Receipt]) -> bool:
        """MySQL has these; whether somebody can enter now."""
        arguments: list[Argument] = []
        for receipt in receipts:
            cause = CAUSES.index(receipt.cause) + 1 if receipt.cause else 0
            arguments += [receipt.debt.value, UUID(receipt.pass_id).bytes, cause]
        reply = await self._run("settle", concert_id, *arguments)
        return bool(reply[2])

    async def raise_ceiling(self, concert_id: str, numbers_to: int) -> None:
        """Numbers up to this one are reserved."""
        await self._run("ceiling", concert_id, numbers_to)

    async def steer(
        self, concert_id: str, version: int, policy: Policy, performances: Sequence[Performance]
    ) -> None:
        """Make policy and sale the room's, unless it has a newer version of them."""
        sale = Sale.of(performances)
        fields = _steering(policy, sale)
        stock: list[Argument] = []
        for one in performances:
            counted = int(one.performance_id in sale.counted)
            figure = "" if one.stock is None else f"{one.stock[0]}:{one.stock[1]}"
            stock += [one.performance_id, counted, figure]
        flat = [part for pair in fields.items() for part in pair]
        await self._run("steer", concert_id, version, len(fields), *flat, *stock)

    async def stock(
        self, concert_id: str, performance_id: str, version: int, seats_left: int
    ) -> None:
        """Seats left of one performance, unless a newer figure is known."""
        await self._run("stock", concert_id, performance_id, version, seats_left)

    async def sound_epoch(self, concert_id: str) -> int:
        """Epoch of a room that can be relied on; 0 when it has to be rebuilt."""
        return int(await self._call("sound", concert_id))

    async def rebuild(self, concert_id: str, frame: RoomFrame, inside: Sequence[Inside]) -> None:
        """Fill a lost room, or hold a surviving one against MySQL.

        Callers raise the epoch in MySQL first; a room that already has this epoch or a newer one
        is left alone.
        """
        policy = frame.policy
        restore_ms = int((_RESTORE_GRACES * policy.place_grace_seconds + frame.hold_seconds) * 1000)
        fields = {
            "last": frame.last,
            "ceiling": frame.ceiling,
            "seq": frame.sequence,
            "seed": frame.seed,
            "opened": int(frame.opened),
            "drawn_base": "" if frame.drawn_base is None else frame.drawn_base,
            "drawn_count": "" if frame.drawn_count is None else frame.drawn_count,
            "fresh": int(frame.is_fresh),
            "hold_ms": int(frame.hold_seconds * 1000),
            "restore_ms": restore_ms,
            "steering": _steering(policy, frame.sale),
        }
        text = json.dumps(fields)
        reply = await self._call("rebuild", concert_id, frame.epoch, "first", text)
        rows = list(inside)
        while reply != b"known":
            part, rows = rows[:_ROWS_A_PART], rows[_ROWS_A_PART:]
            flat = [value for one in part for value in _inside(one, policy)]
            name = "rows" if rows else "last"
            reply = await self._call("rebuild", concert_id, frame.epoch, name, text, *flat)
            if name == "last":
                return

    async def _call(self, script: str, concert_id: str, *arguments: Argument) -> Any:
        return await self._scripts[script]([f"{self._prefix}{{{concert_id}}}:room"], arguments)

    async def _run(self, script: str, concert_id: str, *arguments: Argument) -> Any:
        reply = await self._call(script, concert_id, *arguments)
        if reply == b"missing" or reply[0] == b"missing":
            raise RoomMissing(concert_id)
        return reply


def _steering(policy: Policy, sale: Sale) -> dict[str, Argument]:
    opens_at = opening(policy, sale)
    return {
        "mode": policy.mode.value,
        "opens_at": "" if opens_at is None else _ms(opens_at),
        "any_open": int(sale.any_open),
        "over": int(sale.over),
        "sale_paused": int(sale.paused),
        "shuffle": int(policy.shuffle_at_open),
        "max_active": policy.max_active,
        "per_minute": policy.admit_per_minute,
        "ttl": policy.pass_ttl_seconds,
        "grace": policy.place_grace_seconds,
    }


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _moment(value: bytes | int) -> datetime:
    return _EPOCH + timedelta(milliseconds=int(value))


def _maybe_moment(value: bytes | int) -> datetime | None:
    return _moment(value) if int(value) > 0 else None


def _known(value: int) -> int | None:
    return None if value < 0 else value


def _claim(claim: Claim | None) -> tuple[Argument, ...]:
    if claim is None:
        return ()
    return (claim.number, claim.epoch, UUID(claim.ticket_id).bytes)


def _place(reply: list[Any]) -> Place:
    return Place(
        is_new=reply[0] == b"new",
        now=_moment(reply[1]),
        state=TicketState(reply[2].decode()),
        queue_state=QueueState(reply[3].decode()),
        ticket_id=str(UUID(bytes=reply[4])),
        number=reply[5],
        people_ahead=reply[6],
        waiting=reply[7],
        rate_per_minute=_known(reply[8]),
        opens_at=_maybe_moment(reply[9]),
        grace_seconds=reply[10],
        epoch=reply[11],
        expires_at=_maybe_moment(reply[12]),
        room_is_free=reply[13] == 1,
        admit_per_minute=reply[14],
    )


def _slot(item: list[Any]) -> Slot:
    return Slot(
        debt=Debt(item[0].decode()),
        pass_id=str(UUID(bytes=item[1])),
        user_id=item[2].decode(),
        number=item[3],
        sequence=item[4],
        queued_at=_moment(item[5]),
        delivered_at=_maybe_moment(item[6]),
        expires_at=_maybe_moment(item[7]),
        cause=CAUSES[item[8] - 1] if item[8] else None,
        mode=item[9].decode(),
    )


def _inside(one: Inside, policy: Policy) -> list[Argument]:
    return [
        UUID(one.pass_id).bytes,
        one.user_id,
        one.number,
        one.sequence,
        _ms(one.queued_at),
        _ms(one.delivered_at) if one.delivered_at else 0,
        _ms(one.expires_at) if one.expires_at else 0,
        int(rest_of_undelivered(one, policy) * 1000),
    ]
