"""Who calls, as FastAPI dependencies that OpenAPI documents."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from common.errors import Problem
from common.security.identity import BearerVerifier, Identity
from common.security.passes import Pass, PassVerifier
from common.security.tokens import TokenInvalid

_bearer_scheme = HTTPBearer(
    scheme_name="bearer",
    bearerFormat="JWT",
    auto_error=False,
    description="RS256 token of the OIDC issuer; locally from `POST /api/v1/dev/login`.",
)
_pass_scheme = APIKeyHeader(
    name="Queue-Pass",
    scheme_name="queue-pass",
    auto_error=False,
    description="The pass an admitted poll of the waiting room carries.",
)


def unauthenticated(error: str | None = None) -> Problem:
    """A 401 with its challenge (RFC 6750)."""
    challenge = 'Bearer realm="stagedoor"' + (f', error="{error}"' if error else "")
    return Problem(
        401,
        "unauthenticated",
        "A valid bearer token is required",
        headers={"WWW-Authenticate": challenge},
    )


async def current_user(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer_scheme)],
) -> Identity:
    """The caller, or 401."""
    if credentials is None:
        raise unauthenticated()
    verifier: BearerVerifier = request.app.state.bearer
    try:
        return await verifier.verify(credentials.credentials)
    except TokenInvalid:
        raise unauthenticated("invalid_token") from None


CurrentUser = Annotated[Identity, Depends(current_user)]
"""The caller of a route that needs one; 401 otherwise."""


async def admin_user(user: CurrentUser) -> Identity:
    """The caller, or 403 when not an administrator."""
    if not user.is_admin:
        raise Problem(403, "forbidden", "This is not allowed")
    return user


AdminUser = Annotated[Identity, Depends(admin_user)]
"""The caller of an administrators' route; 401 or 403 otherwise."""


async def queue_pass(
    request: Request,
    user: CurrentUser,
    token: Annotated[str | None, Depends(_pass_scheme)],
) -> Pass:
    """The caller's own pass, or 403 ``pass-required`` / ``pass-invalid``.

    Whether it is for the right concert, and not ended or spent, is the use case's question.
    """
    if token is None:
        raise Problem(403, "pass-required", "A pass of the waiting room is required")
    verifier: PassVerifier = request.app.state.passes
    try:
        admitted = verifier.verify(token)
    except TokenInvalid:
        raise pass_invalid() from None
    if admitted.user_id != user.user_id:
        raise pass_invalid()
    return admitted


def pass_invalid() -> Problem:
    """The 403 for a pass that is forged, expired, ended, or somebody else's."""
    return Problem(403, "pass-invalid", "This pass is not valid here")


QueuePass = Annotated[Pass, Depends(queue_pass)]
"""The caller's own valid pass; 403 otherwise."""
