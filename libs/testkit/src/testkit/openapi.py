"""Is an application's OpenAPI document complete? One assertion for every contract test."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from common.web.limits import RateLimit

_METHODS = ("get", "put", "post", "delete", "patch")
_PROBLEM = "application/problem+json"
_ALWAYS = ("500", "503")
_WITH_BODY = ("413", "415", "422")
_FIRST_ERROR = 400
_NO_CONTENT = ("204", "304")


def assert_complete(app: FastAPI) -> None:
    """Every operation documents its statuses, its problems with their codes, security and models.

    Raises:
        AssertionError: lists everything that is missing, one fault a line.
    """
    faults = list(faults_of(app))
    if faults:
        raise AssertionError("OpenAPI is incomplete:\n" + "\n".join(faults))


def faults_of(app: FastAPI) -> Iterator[str]:
    """What `assert_complete` would list."""
    document = app.openapi()
    if not str(document["openapi"]).startswith("3.1"):
        yield f"document: OpenAPI {document['openapi']}, not 3.1"
    for error in OpenAPIV31SpecValidator(document).iter_errors():
        yield f"document: {error.message}"
    limited = _limited_operations(app)
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                name = f"{method.upper()} {path}"
                for fault in _operation_faults(item[method], path):
                    yield f"{name}: {fault}"
                if (method, path) in limited and "429" not in item[method]["responses"]:
                    yield f"{name}: is rate limited but documents no 429"


def _operation_faults(operation: dict[str, Any], path: str) -> Iterator[str]:
    for key in ("summary", "tags"):
        if not operation.get(key):
            yield f"has no {key}"
    responses = operation["responses"]
    if not any(status.startswith("2") for status in responses):
        yield "documents no success"
    if "requestBody" in operation:
        yield from _body_faults(operation["requestBody"])
    for status in _needed(operation, path):
        if status not in responses:
            yield f"documents no {status}"
    for status, response in responses.items():
        for fault in _response_faults(status, response):
            yield f"{status} {fault}"


def _needed(operation: dict[str, Any], path: str) -> Iterator[str]:
    yield from _ALWAYS
    if "requestBody" in operation:
        yield from _WITH_BODY
    if operation.get("security") or "/admin/" in path:
        yield "401"
    if "/admin/" in path:
        yield "403"
    if "{" in path:
        yield "404"


def _body_faults(body: dict[str, Any]) -> Iterator[str]:
    for media_type, content in body["content"].items():
        if media_type != "application/json":
            yield f"takes {media_type}"
        if not _says_something(content.get("schema")):
            yield "takes a body without a model"


def _response_faults(status: str, response: dict[str, Any]) -> Iterator[str]:
    content = response.get("content", {})
    if int(status) < _FIRST_ERROR:
        if status in _NO_CONTENT:
            if content:
                yield "has a body"
        elif not all(_says_something(one.get("schema")) for one in content.values()):
            yield "has a body without a model"
        elif not content:
            yield "has no body"
        return
    if list(content) != [_PROBLEM]:
        yield f"is {list(content)}, not a problem"
        return
    if not _codes(content[_PROBLEM]["schema"]):
        yield "names no code"
    if status in {"429", "503"} and "Retry-After" not in response.get("headers", {}):
        yield "does not tell of Retry-After"


def _says_something(schema: dict[str, Any] | None) -> bool:
    return bool(schema) and set(schema or {}) != {"title"}


def _codes(schema: dict[str, Any]) -> list[str]:
    codes: list[str] = []
    for part in schema.get("allOf", []):
        codes += part.get("properties", {}).get("code", {}).get("enum", [])
    return codes


def _limited_operations(app: FastAPI) -> set[tuple[str, str]]:
    """Operations one of whose dependencies is a `RateLimit`."""
    found: set[tuple[str, str]] = set()
    for included in app.router.routes:
        contexts = getattr(included, "effective_route_contexts", None)
        for route in contexts() if contexts else [included]:
            original = getattr(route, "original_route", route)
            if not isinstance(original, APIRoute):
                continue
            calls = [one.dependency for one in original.dependencies]
            if any(isinstance(call, RateLimit) for call in calls):
                path = getattr(route, "path_format", original.path_format)
                found |= {(method.lower(), path) for method in original.methods or ()}
    return found
