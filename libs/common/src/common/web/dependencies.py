"""What routes ask for: idempotency key, wait, page, ids of things, use cases."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Path, Query, Request

from common.errors import Problem
from common.web.problems import standard_problem

DEFAULT_WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 10.0
_LONGEST_CURSOR = 512
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?(?=$|[,;\s])", re.IGNORECASE)

Row = TypeVar("Row")


async def _idempotency_key(
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Chosen by the client for one intended effect, e.g. a UUID; the same key"
            " with the same body gets the same answer for 24 h.",
            min_length=1,
            max_length=128,
            pattern=r"^[\x21-\x7e]{1,128}$",
        ),
    ] = None,
) -> str:
    if idempotency_key is None:
        raise Problem(400, "idempotency-key-missing", "The header Idempotency-Key is required")
    return idempotency_key


IdempotencyKey = Annotated[str, Depends(_idempotency_key)]
"""The required ``Idempotency-Key``: 1 to 128 visible ASCII characters; 400 when missing."""


def wait_seconds(prefer: str | None) -> float:
    """Seconds to wait for the outcome by ``Prefer: wait=N``: default 2, at most 10.

    RFC 7240: a preference that is not understood is ignored.
    """
    found = _WAIT.search(prefer) if prefer else None
    return min(float(found[1]), LONGEST_WAIT_SECONDS) if found else DEFAULT_WAIT_SECONDS


async def _wait(
    prefer: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description="`wait=N`: seconds to wait for the outcome; default 2, at most 10.",
        ),
    ] = None,
) -> float:
    return wait_seconds(prefer)


Wait = Annotated[float, Depends(_wait)]
"""Seconds this request waits for its own outcome before it answers 202."""

ResourceId = Annotated[
    str,
    Path(
        min_length=36,
        max_length=36,
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
        description="UUIDv7",
    ),
]
"""An id in a path; text that is no id is a 404 like an id nobody has."""


def encode_cursor(*parts: str | int) -> str:
    """An opaque place in a list: the sort key of the last item shown."""
    text = json.dumps(parts, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str, *types: type[str] | type[int]) -> tuple[Any, ...]:
    """The parts of a cursor, of the types given.

    Raises:
        Problem: 422 when this is not a cursor of ours.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        parts = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or len(parts) != len(types):
        raise _no_cursor()
    if not all(_is_plain(part, kind) for part, kind in zip(parts, types, strict=True)):
        raise _no_cursor()
    return tuple(parts)


def _is_plain(part: object, kind: type[str] | type[int]) -> bool:
    if kind is int:
        return type(part) is int and abs(part) < 2**63
    return isinstance(part, str) and part.isascii() and part.isprintable()


def _no_cursor() -> Problem:
    fault = {"pointer": "query/cursor", "message": "This is not a cursor of this list"}
    return standard_problem(422, errors=[fault])


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a list is wanted."""

    limit: int
    cursor: str | None

    def after(self, *types: type[str] | type[int]) -> tuple[Any, ...] | None:
        """The decoded cursor, or None for the first page (see `decode_cursor`)."""
        return None if self.cursor is None else decode_cursor(self.cursor, *types)


async def _page(
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[
        str | None,
        Query(
            min_length=1, max_length=_LONGEST_CURSOR, description="`next_cursor` of the page before"
        ),
    ] = None,
) -> PageRequest:
    return PageRequest(limit, cursor)


Page = Annotated[PageRequest, Depends(_page)]
"""``limit`` (1 to 100, default 20) and ``cursor`` of a list."""


def next_cursor(
    rows: Sequence[Row], limit: int, key: Callable[[Row], Sequence[str | int]]
) -> tuple[Sequence[Row], str | None]:
    """Split the ``limit + 1`` rows a store read into one page and the cursor of the next."""
    if len(rows) <= limit:
        return rows, None
    shown = rows[:limit]
    return shown, encode_cursor(*key(shown[-1]))


def from_state(name: str) -> Callable[[Request], Any]:
    """A dependency that gives what the composition root put into the application's state.

    ``Annotated[QueueService, Depends(from_state("service"))]``
    """

    async def get(request: Request) -> Any:
        return getattr(request.app.state, name)

    return get
