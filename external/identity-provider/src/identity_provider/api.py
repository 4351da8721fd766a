"""The issuer's routes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import Field, JsonValue

from common.clock import Clock
from common.ids import new_id
from common.web import RequestModel, ResponseModel, Router, from_state
from identity_provider.keys import KeyStore
from identity_provider.settings import IdentityProviderSettings

Settings = Annotated[IdentityProviderSettings, Depends(from_state("settings"))]
Keys = Annotated[KeyStore, Depends(from_state("keys"))]
Time = Annotated[Clock, Depends(from_state("clock"))]

UserId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
RoleName = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[a-z][a-z-]*$")]

login_router = Router(tags=["dev"])
discovery_router: APIRouter = Router(tags=["discovery"])


class Login(RequestModel):
    """Who wants to be whom."""

    user_id: UserId
    roles: Annotated[tuple[RoleName, ...], Field(max_length=16)] = ()


class Token(ResponseModel):
    """A bearer token for the services."""

    access_token: str
    expires_in: int
    """Seconds."""


class Rotated(ResponseModel):
    """The new signing key; the one before stays in the key set."""

    kid: str


class Discovery(ResponseModel):
    """OpenID Connect discovery document, as far as this issuer goes."""

    issuer: str
    jwks_uri: str
    token_endpoint: str
    id_token_signing_alg_values_supported: tuple[str, ...] = ("RS256",)
    response_types_supported: tuple[str, ...] = ("token",)
    subject_types_supported: tuple[str, ...] = ("public",)


class KeySetDocument(ResponseModel):
    """A JWK set (RFC 7517)."""

    keys: list[dict[str, JsonValue]]


@login_router.post("/dev/login", summary="A token for anybody, without a password")
async def login(body: Login, settings: Settings, keys: Keys, clock: Time) -> Token:
    """Only local stacks and Compose have this."""
    now = int(clock.now().timestamp())
    claims = {
        "iss": settings.identity_issuer,
        "aud": settings.identity_audience,
        "sub": body.user_id,
        "roles": body.roles,
        "iat": now,
        "exp": now + settings.token_ttl_seconds,
        "jti": new_id(),
    }
    return Token(access_token=keys.sign(claims), expires_in=settings.token_ttl_seconds)


@discovery_router.post("/dev/rotate", status_code=201, summary="Sign with a new key")
async def rotate(keys: Keys) -> Rotated:
    """Tokens signed before stay valid: the previous key remains in the key set."""
    return Rotated(kid=keys.rotate().kid)


@discovery_router.get("/.well-known/openid-configuration")
async def discovery(settings: Settings) -> Discovery:
    """Where everything is."""
    base = settings.identity_issuer.rstrip("/")
    return Discovery(
        issuer=settings.identity_issuer,
        jwks_uri=f"{base}/.well-known/jwks.json",
        token_endpoint=f"{base}/api/v1/dev/login",
    )


@discovery_router.get("/.well-known/jwks.json")
async def jwks(keys: Keys, response: Response) -> KeySetDocument:
    """The public keys of every valid token."""
    response.headers["Cache-Control"] = "public, max-age=60"
    return KeySetDocument(**keys.jwks())
