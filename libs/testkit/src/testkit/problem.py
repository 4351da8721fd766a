"""What every error answer must look like."""

from typing import Any

import httpx


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check status, media type, code and the members of RFC 9457; return the body."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"urn:stagedoor:problem:{code}"
    assert body["title"]
    assert answer.headers["cache-control"] == "no-store"
    return body
