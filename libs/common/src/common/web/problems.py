"""Errors as ``application/problem+json``: the bodies, the handlers, their place in OpenAPI."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from common.errors import DependencyUnavailable, Problem
from common.logging import get_logger
from common.tracing import current_trace_id
from common.web.models import ProblemBody

MEDIA_TYPE = "application/problem+json"
_LONGEST_ERROR_LIST = 20

_TITLES = {
    400: ("bad-request", "The request is malformed"),
    401: ("unauthenticated", "A valid bearer token is required"),
    403: ("forbidden", "This is not allowed"),
    404: ("not-found", "There is nothing here"),
    405: ("method-not-allowed", "This method is not allowed here"),
    406: ("not-acceptable", "This representation does not exist"),
    408: ("request-timeout", "The body did not arrive in time"),
    413: ("body-too-large", "The body is too large"),
    415: ("unsupported-media-type", "The body must be application/json"),
    422: ("request-invalid", "The request is not valid"),
    429: ("rate-limited", "Too many requests"),
    500: ("internal-error", "Something went wrong on our side"),
    503: ("dependency-unavailable", "A part we need is away; try again soon"),
}

log = get_logger(__name__)


def standard_problem(status: int, detail: str | None = None, **more: Any) -> Problem:
    """The problem every service answers with this status when nothing particular is to be said."""
    code, title = _TITLES.get(status, ("error", "The request failed"))
    return Problem(status, code, title, detail, **more)


def problem_response(problem: Problem) -> Response:
    """The problem as a response, with its ``Retry-After``."""
    body: dict[str, Any] = {
        "type": f"urn:stagedoor:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
    }
    if problem.detail is not None:
        body["detail"] = problem.detail
    trace_id = current_trace_id()
    if trace_id is not None:
        body["trace_id"] = trace_id
    body |= {key: value for key, value in problem.extension_members.items() if key not in body}
    headers = {"Cache-Control": "no-store"} | problem.headers
    if problem.retry_after_seconds is not None:
        headers["Retry-After"] = str(problem.retry_after_seconds)
    content = json.dumps(body, separators=(",", ":"), default=str)
    return Response(content, problem.status, headers, MEDIA_TYPE)


def overloaded_problem() -> Problem:
    """A 503 that costs next to nothing, so that the requests under way can be finished."""
    return Problem(503, "overloaded", "Too many requests are under way", retry_after_seconds=1)


def unavailable_problem(error: DependencyUnavailable) -> Problem:
    """A 503 that says when to come back."""
    return standard_problem(
        503,
        f"{error.dependency} did not answer in time",
        retry_after_seconds=max(1, error.retry_after_seconds),
    )


def _pointer(location: Sequence[int | str]) -> str:
    where, *path = location or ("body",)
    if where == "body":
        escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
        return "#" + "".join(f"/{part}" for part in escaped)
    return "/".join(str(part) for part in location)


def _validation_problem(error: RequestValidationError) -> Problem:
    faults = error.errors()
    if any(fault["loc"][:1] == ("path",) for fault in faults):
        # An id that cannot exist names nothing, as does one that does not exist.
        return standard_problem(404)
    missing_body = any(tuple(fault["loc"]) == ("body",) for fault in faults)
    if missing_body and isinstance(error.body, bytes):
        return standard_problem(415)
    errors = [
        {"pointer": _pointer(fault["loc"]), "message": str(fault["msg"])}
        for fault in faults[:_LONGEST_ERROR_LIST]
    ]
    return standard_problem(422, errors=errors)


async def _on_problem(_: Request, error: Any) -> Response:
    return problem_response(error)


async def _on_unavailable(_: Request, error: Any) -> Response:
    log.warning("dependency-unavailable", dependency=error.dependency)
    return problem_response(unavailable_problem(error))


async def _on_invalid(_: Request, error: Any) -> Response:
    return problem_response(_validation_problem(error))


async def _on_http(_: Request, error: Any) -> Response:
    return problem_response(standard_problem(error.status_code, headers=error.headers))


def add_problem_handlers(app: FastAPI) -> None:
    """Make every error the application raises or meets a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(DependencyUnavailable, _on_unavailable)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


def documented(status: int, codes: Sequence[str]) -> dict[str, Any]:
    """One status of an operation as OpenAPI shows it: the problem's shape and its codes."""
    schema: Mapping[str, Any] = {
        "allOf": [
            {"$ref": f"#/components/schemas/{ProblemBody.__name__}"},
            {
                "type": "object",
                "properties": {
                    "status": {"const": status},
                    "code": {"type": "string", "enum": sorted(codes)},
                },
            },
        ]
    }
    response: dict[str, Any] = {
        "description": " · ".join(f"`{code}`" for code in codes),
        "content": {MEDIA_TYPE: {"schema": schema}},
    }
    if status in {429, 503}:
        response["headers"] = {
            "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}
        }
    if status == 401:  # noqa: PLR2004 - the status itself
        response["headers"] = {
            "WWW-Authenticate": {"description": "`Bearer`", "schema": {"type": "string"}}
        }
    return response


def sent_headers(**descriptions: str) -> dict[str, Any]:
    """The ``headers`` of a response in OpenAPI: ``sent_headers(ETag="…", retry_after="…")``.

    An underscore stands for the hyphen of a header's name, a small letter for a capital.
    """
    return {
        "-".join(part[:1].upper() + part[1:] for part in name.split("_")): {
            "description": text,
            "schema": {"type": "string"},
        }
        for name, text in descriptions.items()
    }


def problems(*pairs: tuple[int | str, ...]) -> dict[int | str, dict[str, Any]]:
    """The ``responses=`` of a route: ``problems((409, "seat-unavailable"), (404, "not-found"))``.

    401, 413, 415, 422, 429, 500 and 503 are added to every operation they apply to.
    """
    codes: dict[int, list[str]] = {}
    for status, *names in pairs:
        codes.setdefault(int(status), []).extend(str(name) for name in names)
    return {status: documented(status, names) for status, names in codes.items()}
