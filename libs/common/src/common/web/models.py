"""Bases of request and response bodies, and the shapes every service shares."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_RFC3339 = re.compile(
    r"[12]\d{3}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})\Z", re.ASCII
)
_TEXT_IN_JSON = frozenset({"enum", "uuid", "tuple", "set", "frozenset"})

Item = TypeVar("Item")


def _only_rfc3339(value: object) -> object:
    if isinstance(value, datetime):
        return value
    # Pydantic alone would also read 5 and "5" as moments in 1970.
    if not isinstance(value, str) or _RFC3339.match(value) is None:
        raise PydanticCustomError("timestamp_invalid", "Input should be an RFC 3339 timestamp")
    return value


def _as_json_is(schema: Any) -> Any:
    """Let what JSON can only say as text or array pass a strict model, and nothing else."""
    if isinstance(schema, list | tuple):
        return type(schema)(_as_json_is(part) for part in schema)
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    parts = {key: _as_json_is(part) for key, part in schema.items()}
    if kind in _TEXT_IN_JSON:
        return parts | {"strict": False}
    if kind == "datetime":
        outer = {"serialization": parts.pop("serialization")} if "serialization" in parts else {}
        inner = parts | {"strict": False}
        checked = core_schema.no_info_before_validator_function(_only_rfc3339, inner)
        return {**checked, **outer}
    return parts


class RequestModel(BaseModel):
    """A request's body: unknown fields are refused and no type is coerced.

    ``"5"`` is no number, ``1`` no boolean, ``5.0`` no integer; times are RFC 3339 text. The
    models nested in a body must be request models too (``Money`` of the events is strict).
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler, /
    ) -> CoreSchema:
        """Strict for what FastAPI hands over: the Python values of a JSON document."""
        schema: CoreSchema = _as_json_is(handler(source))
        return schema


class ResponseModel(BaseModel):
    """An answer's body, immutable once made."""

    model_config = ConfigDict(frozen=True)


class ItemPage(ResponseModel, Generic[Item]):
    """One page of a list; ``next_cursor`` null means there is no more."""

    items: Sequence[Item]
    next_cursor: str | None = None


class InvalidField(ResponseModel):
    """What is wrong at one place of a request."""

    pointer: str
    """JSON pointer into the body (``#/seat_ids/0``), or ``query/limit``, ``header/prefer``."""
    message: str


class ProblemBody(BaseModel):
    """RFC 9457 problem details. ``code`` is stable; clients branch on it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Annotated[str, Field(examples=["urn:stagedoor:problem:not-found"])]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    code: str
    detail: str | None = None
    trace_id: Annotated[str | None, Field(description="Name it when asking for help.")] = None
    errors: Annotated[
        list[InvalidField] | None, Field(description="With `request-invalid`: every fault.")
    ] = None
