"""Strict reading of bodies, and routes that carry their own deadline."""

import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

LARGEST_INTEGER = 2**63 - 1
DEEPEST_NESTING = 32
DEADLINE_SCOPE_KEY = "stagedoor.deadline"
"""Holds a function that moves the request's deadline."""
HEADERS_SCOPE_KEY = "stagedoor.headers"
"""Holds headers that whatever answers will carry, also an error."""
_OVERRIDE = "__stagedoor_deadline_seconds__"

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class _Refused(ValueError):  # noqa: N818 - a verdict on a document
    """The document is JSON to some readers and something else to others."""


def _integer(text: str) -> int:
    # BIGINT is the widest number any store here keeps.
    if len(text) > 20 or abs(number := int(text)) > LARGEST_INTEGER:  # noqa: PLR2004 - digits
        raise _Refused("a number is out of range")
    return number


def _real(text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise _Refused("a number is out of range")
    return number


def _constant(text: str) -> float:
    raise _Refused(f"{text} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Refused("an object names a member twice")
    return result


_decoder = json.JSONDecoder(
    parse_int=_integer, parse_float=_real, parse_constant=_constant, object_pairs_hook=_object
)


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise _Refused("text contains NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Refused("text contains half a surrogate pair") from None


def _check_all_text(value: Any) -> None:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                _check_text(text)
            case list() as parts:
                waiting.extend(parts)
            case dict() as members:
                waiting.extend(members)
                waiting.extend(members.values())


def _nesting(text: str) -> int:
    """An upper bound, cheap for the bodies that matter: brackets inside text count too."""
    return text.count("[") + text.count("{")


def _depth(value: Any) -> int:
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        if isinstance(part, list | dict):
            deepest = max(deepest, depth)
            inner = part.values() if isinstance(part, dict) else part
            waiting.extend((item, depth + 1) for item in inner if isinstance(item, list | dict))
    return deepest


def strict_json(body: bytes) -> Any:
    """Read a JSON document, refusing what readers disagree about or stores cannot keep.

    Refused: invalid UTF-8, NaN and Infinity, numbers beyond 64 bits, repeated members, NUL and
    lone surrogates in text, more than `DEEPEST_NESTING` levels.

    Raises:
        ValueError: with the reason, fit to be shown to the caller.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise _Refused("the body is not UTF-8") from None
    try:
        value = _decoder.decode(text)
    except RecursionError:
        raise _Refused("the document is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _Refused(f"{error.msg} at character {error.pos}") from None
    if _nesting(text) > DEEPEST_NESTING and _depth(value) > DEEPEST_NESTING:
        raise _Refused("the document is nested too deeply")
    if "\\u" in text:
        _check_all_text(value)
    return value


class StrictRequest(Request):
    """A request whose body is read by `strict_json`."""

    async def json(self) -> Any:
        """The body's value.

        Raises:
            RequestValidationError: a 422 that says what is wrong with the document.
        """
        try:
            return strict_json(await self.body())
        except ValueError as error:
            fault = {"type": "json_invalid", "loc": ("body",), "msg": str(error), "input": {}}
            # FastAPI answers 400 for an unknown exception here; it lets this one pass
            # only as HTTPException, so the fault is kept and raised by the route.
            raise _Unreadable(fault) from None


class _Unreadable(json.JSONDecodeError):
    """Carries the fault past FastAPI, which knows a JSONDecodeError only."""

    def __init__(self, fault: dict[str, Any]) -> None:
        super().__init__(str(fault["msg"]), "", 0)
        self.fault = fault


class StrictRoute(APIRoute):
    """A route that reads bodies strictly and may have a deadline of its own."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, given a `StrictRequest`."""
        handle = super().get_route_handler()
        seconds: float | None = getattr(self.endpoint, _OVERRIDE, None)

        async def strict(request: Request) -> Response:
            if seconds is not None and (extend := request.scope.get(DEADLINE_SCOPE_KEY)):
                extend(seconds)
            try:
                return await handle(StrictRequest(request.scope, request.receive))
            except RequestValidationError as error:
                if isinstance(error.__cause__, _Unreadable):
                    raise RequestValidationError([error.__cause__.fault]) from None
                raise

        return strict


class Router(APIRouter):
    """The router of a service's ``api`` module; `create_web_app` accepts no other."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=StrictRoute, redirect_slashes=False, **options)


def deadline(seconds: float) -> Callable[[Endpoint], Endpoint]:
    """Give one route more time than the request's usual deadline (put it under the route)."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _OVERRIDE, seconds)
        return endpoint

    return mark
