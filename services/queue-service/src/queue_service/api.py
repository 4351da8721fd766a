"""Routes of the waiting room and their models."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Response
from pydantic import Field

from common.errors import Problem
from common.events import Timestamp
from common.web import (
    AdminUser,
    CurrentUser,
    ItemPage,
    Page,
    RequestModel,
    ResourceId,
    ResponseModel,
    Router,
    from_state,
    next_cursor,
    problems,
)
from queue_service.domain import (
    LARGEST_ADMIT_PER_MINUTE,
    LARGEST_MAX_ACTIVE,
    LONGEST_GRACE_SECONDS,
    LONGEST_PASS_SECONDS,
    SHORTEST_GRACE_SECONDS,
    Look,
    Mode,
    NoTicket,
    QueueClosed,
    QueueState,
    QueueUnknown,
    TicketState,
    expected_wait,
)
from queue_service.service import Line, Seen, Steering
from queue_service.store import Queue

fans = Router(tags=["queue"])
administrators = Router(tags=["administration"])
routers = (fans, administrators)

LineService = Annotated[Line, Depends(from_state("line"))]
SteeringService = Annotated[Steering, Depends(from_state("steering"))]
QueueTicket = Annotated[
    str | None,
    Header(
        alias="Queue-Ticket",
        description="The `token` of an earlier answer: restores a place the server lost.",
    ),
]

_POLL_HEADERS = {
    "Retry-After": {
        "description": "Seconds until the next poll, rounded up",
        "schema": {"type": "integer", "minimum": 1},
    }
}
_UNKNOWN = (404, "queue-unknown")


class PassModel(ResponseModel):
    """The right to reserve; send ``token`` as ``Queue-Pass``."""

    token: str
    expires_at: Timestamp
    expires_in_seconds: Annotated[float, Field(ge=0)]


class TicketModel(ResponseModel):
    """One fan's place in one queue."""

    ticket_id: str
    concert_id: str
    state: TicketState
    number: Annotated[
        int,
        Field(
            description="Strict order of arrival. In a `pre_queue` that is shuffled at its opening"
            " the number is drawn then."
        ),
    ]
    people_ahead: Annotated[int, Field(ge=0)]
    estimated_wait_seconds: Annotated[
        int | None, Field(description="From the measured admission rate; null when unknown.")
    ]
    poll_after_seconds: Annotated[float, Field(gt=0)]
    token: Annotated[str, Field(description="Keep it: it restores the place (`Queue-Ticket`).")]
    pass_: Annotated[PassModel | None, Field(serialization_alias="pass")]


class QueueModel(ResponseModel):
    """A queue as anyone may see it."""

    concert_id: str
    state: QueueState
    serving_number: Annotated[int, Field(description="Highest number admitted so far; 0: none.")]
    waiting: Annotated[int, Field(ge=0)]
    admitted_per_minute: Annotated[int, Field(ge=0, description="Measured over the last minute.")]
    seats_left: Annotated[int | None, Field(description="In the open performances.")]
    as_of: Timestamp


class PolicyBody(RequestModel):
    """What to change; a field that is left out stays as it is."""

    mode: Annotated[Mode, Field(strict=False)] = Mode.OPEN  # JSON can only say it as text
    opens_at: Annotated[
        Timestamp | None, Field(description="null: the earliest opening of the sale.")
    ] = None
    shuffle_at_open: bool = False
    max_active: Annotated[int, Field(ge=1, le=LARGEST_MAX_ACTIVE)] = 500
    admit_per_minute: Annotated[int, Field(ge=1, le=LARGEST_ADMIT_PER_MINUTE)] = 6_000
    pass_ttl_seconds: Annotated[int, Field(ge=1, le=LONGEST_PASS_SECONDS)] = 600
    place_grace_seconds: Annotated[
        int, Field(ge=SHORTEST_GRACE_SECONDS, le=LONGEST_GRACE_SECONDS)
    ] = 120


class PolicyModel(ResponseModel):
    """A queue's policy in force, and what it does to the queue now."""

    concert_id: str
    mode: Mode
    opens_at: Timestamp | None
    opens_at_follows_sale: bool
    shuffle_at_open: bool
    max_active: int
    admit_per_minute: int
    pass_ttl_seconds: int
    place_grace_seconds: int
    version: int
    changed_at: Timestamp
    changed_by: str
    state: QueueState
    waiting: int
    inside: int
    serving_number: int
    admitted_per_minute: int
    seats_left: int | None


class QueueFigures(ResponseModel):
    """One queue on the dashboard."""

    concert_id: str
    mode: Mode
    max_active: int
    admit_per_minute: int
    inside: int
    admitted_total: int
    admitted_last_minute: int
    purchased: int


class JwkModel(ResponseModel):
    """One public key (RFC 8037)."""

    kty: str
    crv: str
    x: str
    kid: str
    use: str
    alg: str


class JwksModel(ResponseModel):
    """Every key a pass may be signed with."""

    keys: list[JwkModel]


@contextmanager
def _answers() -> Iterator[None]:
    try:
        yield
    except QueueUnknown:
        raise Problem(404, "queue-unknown", "This concert has no queue") from None
    except NoTicket:
        raise Problem(404, "no-ticket", "You have no place in this queue") from None
    except QueueClosed:
        raise Problem(409, "queue-closed", "This queue is closed") from None


@fans.put(
    "/queues/{concert_id}/ticket",
    status_code=201,
    responses={
        **problems(_UNKNOWN, (409, "queue-closed")),
        200: {"model": TicketModel, "description": "The same place", "headers": _POLL_HEADERS},
        201: {"description": "A new place", "headers": _POLL_HEADERS},
    },
)
async def join(
    concert_id: ResourceId,
    user: CurrentUser,
    line: LineService,
    response: Response,
    queue_ticket: QueueTicket = None,
) -> TicketModel:
    """Line up. One place a fan and concert, however often and from wherever it is asked for."""
    with _answers():
        seen = await line.join(concert_id, user.user_id, queue_ticket)
    response.status_code = 201 if seen.place.is_new else 200
    return _ticket(seen, response)


@fans.get(
    "/queues/{concert_id}/ticket",
    responses={
        **problems((404, "no-ticket", "queue-unknown")),
        200: {"headers": _POLL_HEADERS},
    },
)
async def poll(
    concert_id: ResourceId,
    user: CurrentUser,
    line: LineService,
    response: Response,
    queue_ticket: QueueTicket = None,
) -> TicketModel:
    """Ask how it stands, and stay in line: who stops asking loses the place after a while."""
    with _answers():
        seen = await line.poll(concert_id, user.user_id, queue_ticket)
    return _ticket(seen, response)


@fans.delete("/queues/{concert_id}/ticket", status_code=204, responses=problems(_UNKNOWN))
async def leave(concert_id: ResourceId, user: CurrentUser, line: LineService) -> None:
    """Give the place, or the admission, up."""
    with _answers():
        await line.leave(concert_id, user.user_id)


@fans.get(
    "/queues/{concert_id}",
    responses={
        **problems(_UNKNOWN),
        200: {
            "headers": {
                "Cache-Control": {
                    "description": "`public, max-age=1`",
                    "schema": {"type": "string"},
                }
            }
        },
    },
)
async def look(concert_id: ResourceId, line: LineService, response: Response) -> QueueModel:
    """The queue as anyone may see it; one answer serves everybody for a second."""
    with _answers():
        seen = await line.look(concert_id)
    response.headers["Cache-Control"] = "public, max-age=1"
    return QueueModel(
        concert_id=concert_id,
        state=seen.state,
        serving_number=seen.serving_number,
        waiting=seen.waiting,
        admitted_per_minute=seen.rate_per_minute or 0,
        seats_left=seen.seats_left,
        as_of=seen.now,
    )


@fans.get("/queues/.well-known/jwks.json")
async def public_keys(line: LineService, response: Response) -> JwksModel:
    """The keys that verify passes; an old one stays until its last pass has ended."""
    response.headers["Cache-Control"] = "public, max-age=300"
    return JwksModel.model_validate(line.public_keys())


@administrators.get("/admin/queues/{concert_id}", responses=problems(_UNKNOWN))
async def policy(
    concert_id: ResourceId, _: AdminUser, steering: SteeringService, line: LineService
) -> PolicyModel:
    """The policy in force and the queue's figures."""
    with _answers():
        queue = await steering.queue(concert_id)
        return _policy(queue, await line.look(concert_id))


@administrators.put("/admin/queues/{concert_id}", responses=problems(_UNKNOWN))
async def change_policy(
    concert_id: ResourceId,
    body: PolicyBody,
    user: AdminUser,
    steering: SteeringService,
    line: LineService,
) -> PolicyModel:
    """Steer a queue while it runs; it follows within a second, and who did it is recorded."""
    fields = {name: getattr(body, name) for name in body.model_fields_set}
    with _answers():
        queue = await steering.change(concert_id, fields, user.user_id)
        return _policy(queue, await line.look(concert_id))


@administrators.get("/admin/dashboard/queues")
async def dashboard(_: AdminUser, page: Page, steering: SteeringService) -> ItemPage[QueueFigures]:
    """Figures of all queues, newest concert first, as old as the replica at most."""
    after = page.after(str)
    rows = await steering.figures(after[0] if after else None, page.limit + 1)
    shown, cursor = next_cursor(rows, page.limit, lambda row: (row["concert_id"],))
    return ItemPage(items=[QueueFigures(**row) for row in shown], next_cursor=cursor)


def _ticket(seen: Seen, response: Response) -> TicketModel:
    place = seen.place
    response.headers["Retry-After"] = str(math.ceil(seen.poll_after_seconds))
    return TicketModel(
        ticket_id=place.ticket_id,
        concert_id=seen.concert_id,
        state=place.state,
        number=place.number,
        people_ahead=place.people_ahead,
        estimated_wait_seconds=expected_wait(place),
        poll_after_seconds=seen.poll_after_seconds,
        token=seen.token,
        pass_=_pass(seen.pass_token, place.expires_at, place.now),
    )


def _pass(token: str | None, expires_at: datetime | None, now: datetime) -> PassModel | None:
    if token is None or expires_at is None:
        return None
    left = max((expires_at - now).total_seconds(), 0.0)
    return PassModel(token=token, expires_at=expires_at, expires_in_seconds=left)


def _policy(queue: Queue, look: Look) -> PolicyModel:
    policy = queue.policy
    fields: dict[str, Any] = policy.record() | {
        "opens_at": policy.opens_at or queue.sale.opens_at,
        "opens_at_follows_sale": policy.opens_at is None,
    }
    return PolicyModel(
        concert_id=queue.concert_id,
        version=queue.version,
        changed_at=queue.changed_at,
        changed_by=queue.changed_by,
        state=look.state,
        waiting=look.waiting,
        inside=look.inside,
        serving_number=look.serving_number,
        admitted_per_minute=look.rate_per_minute or 0,
        seats_left=look.seats_left,
        **fields,
    )
