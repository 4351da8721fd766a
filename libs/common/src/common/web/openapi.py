"""What OpenAPI must say that FastAPI does not say alone: problems, on every operation."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from common.web.models import ProblemBody
from common.web.problems import documented

_SCHEMAS = "#/components/schemas/{model}"
_METHODS = ("get", "put", "post", "delete", "patch")
_COMMON = {500: ["internal-error"], 503: ["dependency-unavailable", "overloaded"]}


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation of an OpenAPI document: method, path, operation object."""
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            if method in item:
                yield method, path, item[method]


def _statuses(operation: dict[str, Any], path: str) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    if operation.get("security"):
        found[401] = ["unauthenticated"]
    if operation.get("requestBody"):
        found |= {
            408: ["request-timeout"],
            413: ["body-too-large"],
            415: ["unsupported-media-type"],
            422: ["request-invalid"],
        }
    parameters = operation.get("parameters", [])
    names = {(one["in"], one["name"].lower()) for one in parameters}
    if any(place == "path" for place, _ in names):
        found[404] = ["not-found"]
    if any(place in {"query", "header"} and name != "prefer" for place, name in names):
        found[422] = ["request-invalid"]
    if ("header", "idempotency-key") in names:
        found[400] = ["idempotency-key-missing"]
    if "/admin/" in path:
        found[403] = ["forbidden"]
    return found | {status: list(codes) for status, codes in _COMMON.items()}


def _codes(response: dict[str, Any]) -> list[str]:
    content = response.get("content", {}).get("application/problem+json", {})
    for part in content.get("schema", {}).get("allOf", []):
        codes: list[str] = part.get("properties", {}).get("code", {}).get("enum", [])
        if codes:
            return codes
    return []


def _require_idempotency_key(operation: dict[str, Any]) -> None:
    # Optional for FastAPI, so that we and not it answer for a missing one: 400, not 422.
    for parameter in operation.get("parameters", []):
        if parameter["name"] == "Idempotency-Key":
            parameter["required"] = True
            kinds = parameter["schema"].pop("anyOf")
            parameter["schema"] |= next(kind for kind in kinds if kind["type"] == "string")


def _complete(operation: dict[str, Any], path: str) -> None:
    _require_idempotency_key(operation)
    responses = operation.setdefault("responses", {})
    # FastAPI's own 422 documents a body we never send.
    own = responses.get("422", {}).get("content", {})
    if "application/json" in own and not _codes(responses["422"]):
        del responses["422"]
    for status, codes in _statuses(operation, path).items():
        present = _codes(responses.get(str(status), {}))
        if status == 404 and present:  # noqa: PLR2004 - the route says what is not found
            continue
        merged = present + [code for code in codes if code not in present]
        responses[str(status)] = documented(status, merged)
    operation["responses"] = dict(sorted(responses.items()))


def install_openapi(app: FastAPI) -> None:
    """Make ``app.openapi()`` complete (see the contract test ``testkit.openapi``)."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        problem = ProblemBody.model_json_schema(ref_template=_SCHEMAS)
        schemas.update(problem.pop("$defs", {}))
        schemas[ProblemBody.__name__] = problem
        for _, path, operation in operations(document):
            _complete(operation, path)
        app.openapi_schema = document
        return document

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend it
