"""Bearer tokens of the OIDC issuer: the keys, the verification, its memory."""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from common.clock import Clock
from common.errors import DependencyUnavailable
from common.logging import get_logger
from common.security.tokens import (
    CACHED_TOKENS,
    LONGEST_TOKEN,
    REFRESH_SECONDS,
    TokenInvalid,
    check_times,
    claims_of,
    key_id_of,
    user_id_of,
)

BEARER_ALGORITHM = "RS256"
ADMIN_ROLE = "admin"

_MAX_AGE_SECONDS = 300.0
"""Older keys are not believed while the issuer can say otherwise."""
_REFRESH_AGE_SECONDS = 240.0
"""From this age on they are fetched anew in the background, so that no caller waits."""
_FETCH_SECONDS = 1.0
_LARGEST_JWKS = 256 * 1024

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, as the issuer says."""

    user_id: str
    roles: frozenset[str] = frozenset()

    @property
    def is_admin(self) -> bool:
        """Whether the caller may use ``/admin``."""
        return ADMIN_ROLE in self.roles


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
        self._background: asyncio.Task[None] | None = None

    async def warm_up(self) -> None:
        """Fetch the keys before the first caller needs them; the issuer may be away."""
        await self._refresh("")

    async def get(self, kid: str) -> RSAPublicKey:
        """The key of this id.

        Raises:
            TokenInvalid: the issuer has no such key.
            DependencyUnavailable: no key is known and the issuer is away.
        """
        if kid not in self._keys or self._is_older_than(_MAX_AGE_SECONDS):
            await self._refresh(kid)
        elif self._is_older_than(_REFRESH_AGE_SECONDS) and self._may_try():
            self._background = asyncio.create_task(self._refresh(kid))
        key = self._keys.get(kid)
        if key is not None:
            return key
        if self._fetched_at is None:
            raise DependencyUnavailable("identity-provider")
        raise TokenInvalid("unknown key")

    def _is_older_than(self, seconds: float) -> bool:
        return self._fetched_at is None or self._clock.monotonic() - self._fetched_at > seconds

    def _may_try(self) -> bool:
        pause = REFRESH_SECONDS if self._keys else 1.0
        return self._tried_at is None or self._clock.monotonic() - self._tried_at >= pause

    async def _refresh(self, kid: str) -> None:
        async with self._lock:
            if not self._may_try() or (
                kid in self._keys and not self._is_older_than(_REFRESH_AGE_SECONDS)
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

    async def warm_up(self) -> None:
        """Fetch the issuer's keys ahead of the first request, if it is there."""
        await self._keys.warm_up()

    async def verify(self, token: str) -> Identity:
        """The caller a token proves.

        Raises:
            TokenInvalid: it proves nobody.
            DependencyUnavailable: the issuer's keys are not known yet and it is away.
        """
        if len(token) > LONGEST_TOKEN:
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
        key = await self._keys.get(key_id_of(token, BEARER_ALGORITHM))
        claims = claims_of(token, key, BEARER_ALGORITHM, self._audience, self._issuer)
        expires = check_times(claims, now)
        identity = Identity(user_id_of(claims), _roles(claims))
        self._known[digest] = (identity, expires)
        if len(self._known) > CACHED_TOKENS:
            self._known.popitem(last=False)
        return identity


def _roles(claims: Mapping[str, Any]) -> frozenset[str]:
    roles = claims.get("roles", [])
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise TokenInvalid("roles is no list of names")
    return frozenset(roles)
