"""Who is calling: bearer tokens of the OIDC issuer, and the waiting room's passes.

One library verifies both (PyJWT), each with one pinned algorithm: RS256 for identities, EdDSA for
passes. Time comes from the process's `Clock`, never from the wall clock.
"""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from common.clock import Clock
from common.errors import DependencyUnavailable, Problem
from common.logging import get_logger

BEARER_ALGORITHM = "RS256"
PASS_ALGORITHM = "EdDSA"  # noqa: S105 - a pass, not a password
PASS_AUDIENCE = "reservation"  # noqa: S105 - as above
ADMIN_ROLE = "admin"

_LEEWAY_SECONDS = 0
_LONGEST_TOKEN = 8192
_LONGEST_USER_ID = 128
_REFRESH_SECONDS = 5.0
_MAX_AGE_SECONDS = 300.0
_FETCH_SECONDS = 1.0
_CACHED_TOKENS = 20_000
_LARGEST_JWKS = 256 * 1024

log = get_logger(__name__)


class TokenInvalid(Exception):  # noqa: N818 - a verdict; never leaves as it is
    """The token proves nothing; the reason is for logs and tests."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, as the issuer says."""

    user_id: str
    roles: frozenset[str] = frozenset()

    @property
    def is_admin(self) -> bool:
        """Whether the caller may use ``/admin``."""
        return ADMIN_ROLE in self.roles


def _claims_at(token: str, key: Any, algorithm: str, audience: str, issuer: str | None) -> Any:
    """Signature and form only: moments are compared by the caller, on our clock."""
    options: Any = {
        "require": ["exp", "sub", "aud"] + (["iss"] if issuer else []),
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
        "strict_aud": False,
    }
    try:
        return jwt.decode(
            token, key, algorithms=[algorithm], audience=audience, issuer=issuer, options=options
        )
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise TokenInvalid(str(error)) from None


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        raise TokenInvalid(f"{name} is no moment")
    return float(value)


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    """The token's ``exp`` in epoch seconds, when it is valid now."""
    expires = _moment(claims, "exp")
    if expires is None or now >= expires + _LEEWAY_SECONDS:
        raise TokenInvalid("expired")
    not_before = _moment(claims, "nbf")
    if not_before is not None and now < not_before:
        raise TokenInvalid("not valid yet")
    return expires


def _user_id(claims: Mapping[str, Any]) -> str:
    user_id = claims.get("sub")
    if not isinstance(user_id, str) or not 1 <= len(user_id) <= _LONGEST_USER_ID:
        raise TokenInvalid("sub is no user id")
    if not user_id.isprintable() or any("\ud800" <= char <= "\udfff" for char in user_id):
        raise TokenInvalid("sub is no user id")
    # To SQL "fan " and "fan" are one and the same: the second would own the first one's wallet.
    if user_id.endswith(" "):
        raise TokenInvalid("sub is no user id")
    return user_id


def _header_of(token: str, algorithm: str) -> str:
    """The key id of a token that claims to be signed the only accepted way."""
    if len(token) > _LONGEST_TOKEN:
        raise TokenInvalid("too long")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise TokenInvalid(str(error)) from None
    if header.get("alg") != algorithm:
        raise TokenInvalid("another algorithm")
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise TokenInvalid("no key id")
    return kid


class KeySet:
    """The issuer's signing keys, from ``http(s)://`` or ``file://``.

    Fetched with a deadline and refreshed after five minutes; kept when the issuer is away. An
    unknown key id refreshes at most every five seconds, so that forged tokens cannot make this
    process flood the issuer.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, RSAPublicKey] = {}
        self._tried_at: float | None = None
        self._fetched_at: float | None = None
        self._lock = asyncio.Lock()

    async def get(self, kid: str) -> RSAPublicKey:
        """The key of this id.

        Raises:
            TokenInvalid: the issuer has no such key.
            DependencyUnavailable: no key is known and the issuer is away.
        """
        if kid not in self._keys or self._is_older_than(_MAX_AGE_SECONDS):
            await self._refresh(kid)
        key = self._keys.get(kid)
        if key is not None:
            return key
        if self._fetched_at is None:
            raise DependencyUnavailable("identity-provider")
        raise TokenInvalid("unknown key")

    def _is_older_than(self, seconds: float) -> bool:
        return self._fetched_at is None or self._clock.monotonic() - self._fetched_at > seconds

    def _may_try(self) -> bool:
        pause = _REFRESH_SECONDS if self._keys else 1.0
        return self._tried_at is None or self._clock.monotonic() - self._tried_at >= pause

    async def _refresh(self, kid: str) -> None:
        async with self._lock:
            if not self._may_try() or (
                kid in self._keys and not self._is_older_than(_MAX_AGE_SECONDS)
            ):
                return
            self._tried_at = self._clock.monotonic()
            try:
                async with asyncio.timeout(_FETCH_SECONDS):
                    keys = _public_keys(await self._read())
            except (TimeoutError, OSError, httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
                log.warning("jwks-unavailable", reason=type(error).__name__)
                return
            self._keys = keys
            self._fetched_at = self._clock.monotonic()

    async def _read(self) -> Any:
        address = urlsplit(self._url)
        if address.scheme == "file":
            return json.loads(await asyncio.to_thread(Path(unquote(address.path)).read_bytes))
        async with httpx.AsyncClient(timeout=_FETCH_SECONDS, follow_redirects=False) as client:
            response = await client.get(self._url)
        response.raise_for_status()
        if len(response.content) > _LARGEST_JWKS:
            raise ValueError("the key set is too large")
        return response.json()


def _public_keys(document: Any) -> dict[str, RSAPublicKey]:
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("no key set")  # noqa: TRY004 - of a document, not of an argument
    found: dict[str, RSAPublicKey] = {}
    for entry in document["keys"]:
        usable = isinstance(entry, dict) and entry.get("kty") == "RSA" and entry.get("kid")
        if not usable or entry.get("use", "sig") != "sig":
            continue
        key = jwt.PyJWK(entry, algorithm=BEARER_ALGORITHM).key
        if isinstance(key, RSAPublicKey) and key.key_size >= 2048:  # noqa: PLR2004 - bits
            found[str(entry["kid"])] = key
    if not found:
        raise ValueError("no usable key")
    return found


class BearerVerifier:
    """Verifies ``Authorization: Bearer`` tokens: RS256 only, ``iss``, ``aud``, ``exp``.

    A verdict is remembered until the token expires, in a bounded cache keyed by the token's hash
    (a verification costs some hundred microseconds, and a fan polls with the same token).
    """

    def __init__(self, keys: KeySet, *, issuer: str, audience: str, clock: Clock) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()

    async def verify(self, token: str) -> Identity:
        """The caller a token proves.

        Raises:
            TokenInvalid: it proves nobody.
            DependencyUnavailable: the issuer's keys are not known yet and it is away.
        """
        if len(token) > _LONGEST_TOKEN:
            raise TokenInvalid("too long")
        digest = hashlib.blake2b(token.encode("utf-8", "replace"), digest_size=32).digest()
        now = self._clock.now().timestamp()
        known = self._known.get(digest)
        if known is not None:
            if now < known[1]:
                self._known.move_to_end(digest)
                return known[0]
            del self._known[digest]
            raise TokenInvalid("expired")
        key = await self._keys.get(_header_of(token, BEARER_ALGORITHM))
        claims = _claims_at(token, key, BEARER_ALGORITHM, self._audience, self._issuer)
        expires = _check_times(claims, now)
        identity = Identity(_user_id(claims), _roles(claims))
        self._known[digest] = (identity, expires)
        if len(self._known) > _CACHED_TOKENS:
            self._known.popitem(last=False)
        return identity


def _roles(claims: Mapping[str, Any]) -> frozenset[str]:
    roles = claims.get("roles", [])
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise TokenInvalid("roles is no list of names")
    return frozenset(roles)


@dataclass(frozen=True, slots=True)
class Pass:
    """The right of one fan to reserve seats of one concert until a moment."""

    user_id: str
    concert_id: str
    pass_id: str
    expires_at: datetime


class PassSigner:
    """Signs passes (queue-service only). The key is Ed25519, PEM."""

    def __init__(self, private_key_pem: str, kid: str, *, issuer: str = "queue-service") -> None:
        key = load_pem_private_key(private_key_pem.encode(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("the pass key must be Ed25519")
        self._key = key
        self._kid = kid
        self._issuer = issuer

    def sign(self, admitted: Pass) -> str:
        """The pass as a compact JWT."""
        claims = {
            "iss": self._issuer,
            "aud": PASS_AUDIENCE,
            "sub": admitted.user_id,
            "concert_id": admitted.concert_id,
            "pass_id": admitted.pass_id,
            "exp": int(admitted.expires_at.timestamp()),
        }
        return jwt.encode(claims, self._key, algorithm=PASS_ALGORITHM, headers={"kid": self._kid})

    def public_jwks(self) -> dict[str, Any]:
        """The public half as a JWK set with this one key."""
        return {"keys": [public_jwk(self._key.public_key(), self._kid)]}


def public_jwk(key: Ed25519PublicKey, kid: str) -> dict[str, Any]:
    """One Ed25519 public key as a JWK."""
    jwk: dict[str, Any] = jwt.algorithms.OKPAlgorithm.to_jwk(key, as_dict=True)
    return jwk | {"kid": kid, "use": "sig", "alg": PASS_ALGORITHM}


class PassVerifier:
    """Verifies passes with the public keys of a directory; overlapping rotation.

    The directory is read again when an unknown key id comes, at most every five seconds, so a new
    key may be mounted while the process runs.
    """

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._read_at: float | None = None
        self._known: OrderedDict[str, Pass] = OrderedDict()

    def public_jwks(self) -> dict[str, Any]:
        """Every key passes may be signed with, as a JWK set."""
        self._read()
        return {"keys": [public_jwk(key, kid) for kid, key in sorted(self._keys.items())]}

    def verify(self, token: str) -> Pass:
        """The pass a token is.

        Raises:
            TokenInvalid: it is none, or not any more.
        """
        now = self._clock.now()
        known = self._known.get(token) if len(token) <= _LONGEST_TOKEN else None
        if known is not None:
            if now >= known.expires_at:
                del self._known[token]
                raise TokenInvalid("expired")
            return known
        key = self._key(_header_of(token, PASS_ALGORITHM))
        claims = _claims_at(token, key, PASS_ALGORITHM, PASS_AUDIENCE, None)
        expires = _check_times(claims, now.timestamp())
        concert_id, pass_id = claims.get("concert_id"), claims.get("pass_id")
        if not isinstance(concert_id, str) or not isinstance(pass_id, str):
            raise TokenInvalid("a claim is missing")
        admitted = Pass(
            _user_id(claims), concert_id, pass_id, datetime.fromtimestamp(expires, tz=UTC)
        )
        self._known[token] = admitted
        if len(self._known) > _CACHED_TOKENS:
            self._known.popitem(last=False)
        return admitted

    def _key(self, kid: str) -> Ed25519PublicKey:
        if kid not in self._keys:
            self._read()
        key = self._keys.get(kid)
        if key is None:
            raise TokenInvalid("unknown key")
        return key

    def _read(self) -> None:
        now = self._clock.monotonic()
        if self._read_at is not None and now - self._read_at < _REFRESH_SECONDS:
            return
        self._read_at = now
        keys: dict[str, Ed25519PublicKey] = {}
        for file in sorted(self._directory.glob("*.pem")):
            key = load_pem_public_key(file.read_bytes())
            if not isinstance(key, Ed25519PublicKey):
                raise TypeError(f"{file.name} is not an Ed25519 public key")
            keys[file.stem] = key
        self._keys = keys


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
