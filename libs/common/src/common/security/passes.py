"""Passes of the waiting room: signed by queue-service, verified by others with mounted keys."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from common.clock import Clock
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

PASS_ALGORITHM = "EdDSA"  # noqa: S105 - a pass, not a password
PASS_AUDIENCE = "reservation"  # noqa: S105 - as above


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
        known = self._known.get(token) if len(token) <= LONGEST_TOKEN else None
        if known is not None:
            if now >= known.expires_at:
                del self._known[token]
                raise TokenInvalid("expired")
            return known
        key = self._key(key_id_of(token, PASS_ALGORITHM))
        claims = claims_of(token, key, PASS_ALGORITHM, PASS_AUDIENCE, None)
        expires = check_times(claims, now.timestamp())
        concert_id, pass_id = claims.get("concert_id"), claims.get("pass_id")
        if not isinstance(concert_id, str) or not isinstance(pass_id, str):
            raise TokenInvalid("a claim is missing")
        admitted = Pass(
            user_id_of(claims), concert_id, pass_id, datetime.fromtimestamp(expires, tz=UTC)
        )
        self._known[token] = admitted
        if len(self._known) > CACHED_TOKENS:
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
        if self._read_at is not None and now - self._read_at < REFRESH_SECONDS:
            return
        self._read_at = now
        keys: dict[str, Ed25519PublicKey] = {}
        for file in sorted(self._directory.glob("*.pem")):
            key = load_pem_public_key(file.read_bytes())
            if not isinstance(key, Ed25519PublicKey):
                raise TypeError(f"{file.name} is not an Ed25519 public key")
            keys[file.stem] = key
        self._keys = keys
