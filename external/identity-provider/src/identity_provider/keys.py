"""The issuer's signing keys: made once, kept on disk, rotated with overlap."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from common.ids import new_id

KEY_BITS = 2048
KEPT_KEYS = 2
"""The signing key and the one before, so that tokens signed just before a rotation stay valid."""


@dataclass(frozen=True)
class SigningKey:
    """One RS256 key pair."""

    kid: str
    private: rsa.RSAPrivateKey

    def jwk(self) -> dict[str, Any]:
        """The public half."""
        public: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(
            self.private.public_key(), as_dict=True
        )
        return public | {"kid": self.kid, "use": "sig", "alg": "RS256"}


class KeyStore:
    """The keys as PEM files of one directory; a file's stem is its key id, the newest signs.

    Kept on disk so that a restart of the issuer leaves every token valid.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._keys = [_read(file) for file in sorted(directory.glob("*.pem"))]
        if not self._keys:
            self.rotate()

    @property
    def signing(self) -> SigningKey:
        """The key new tokens are signed with."""
        return self._keys[-1]

    def rotate(self) -> SigningKey:
        """Make a new signing key; the one before stays published, older ones go."""
        key = SigningKey(new_id(), rsa.generate_private_key(65537, KEY_BITS))
        self._write(key)
        self._keys.append(key)
        while len(self._keys) > KEPT_KEYS:
            self._file(self._keys.pop(0).kid).unlink(missing_ok=True)
        return key

    def jwks(self) -> dict[str, Any]:
        """Every key a valid token may be signed with."""
        return {"keys": [key.jwk() for key in reversed(self._keys)]}

    def sign(self, claims: dict[str, Any]) -> str:
        """The claims as a compact JWT."""
        return jwt.encode(
            claims, self.signing.private, algorithm="RS256", headers={"kid": self.signing.kid}
        )

    def _file(self, kid: str) -> Path:
        return self._directory / f"{kid}.pem"

    def _write(self, key: SigningKey) -> None:
        pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        unfinished = self._directory / f"{key.kid}.new"
        # A key written halfway would keep the issuer from starting again.
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._file(key.kid))


def _read(file: Path) -> SigningKey:
    key = load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{file} is no RSA key")
    return SigningKey(file.stem, key)


def export_jwks(store: KeyStore, file: Path) -> None:
    """Write the key set where services read it by ``file://``, replaced in one step."""
    unfinished = file.with_suffix(".new")
    unfinished.write_text(json.dumps(store.jwks()))
    unfinished.replace(file)
