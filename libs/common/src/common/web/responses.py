"""Answers that are bytes already."""

from collections.abc import Mapping

from fastapi import Response


def json_bytes(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON that somebody else serialised: a cache entry, a stored final answer.

    Give the route ``response_model=`` so that OpenAPI still documents the shape; FastAPI hands a
    `Response` through untouched.
    """
    return Response(body, status, headers, "application/json")
