"""Tokens and passes as issuer and waiting room would sign them, with keys of one session."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from common.ids import new_id
from local_stack.credentials import KeyFiles

ISSUER = "https://identity.test"
AUDIENCE = "stagedoor"
_KEY_ID = "session"


class Bearer:
    """Makes the value of an ``Authorization`` header."""

    def __init__(self, folder: Path) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self._jwks_file = folder / "jwks.json"
        keys = [jwk | {"kid": _KEY_ID, "use": "sig", "alg": "RS256"}]
        self._jwks_file.write_text(json.dumps({"keys": keys}))

    @property
    def jwks_url(self) -> str:
        """For ``identity_jwks_url``."""
        return self._jwks_file.as_uri()

    def token(self, user_id: str, roles: Sequence[str] = (), **claims: Any) -> str:
        """A token; ``claims`` replace or add to the usual ones, None takes one away."""
        now = int(time.time())
        body = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "roles": list(roles),
            "iat": now,
            "exp": now + 3600,
            **claims,
        }
        present = {name: value for name, value in body.items() if value is not None}
        return jwt.encode(present, self._key, algorithm="RS256", headers={"kid": _KEY_ID})

    def __call__(self, user_id: str, roles: Sequence[str] = (), **claims: Any) -> dict[str, str]:
        """Headers that identify the caller."""
        return {"Authorization": f"Bearer {self.token(user_id, roles, **claims)}"}


class QueuePass:
    """Makes passes, and knows where the keys are that verify and sign them."""

    def __init__(self, folder: Path) -> None:
        self.keys = KeyFiles(folder)
        self.keys.create()
        self._private_pem = self.keys.pass_signing_key.read_text()

    def token(self, user_id: str, concert_id: str, **claims: Any) -> str:
        """A pass; ``claims`` replace or add to the usual ones, None takes one away."""
        body = {
            "iss": "queue-service",
            "aud": "reservation",
            "sub": user_id,
            "concert_id": concert_id,
            "pass_id": new_id(),
            "exp": int(time.time()) + 600,
            **claims,
        }
        present = {name: value for name, value in body.items() if value is not None}
        headers = {"kid": self.keys.pass_signing_key.stem}
        return jwt.encode(present, self._private_pem, algorithm="EdDSA", headers=headers)

    def __call__(self, user_id: str, concert_id: str, **claims: Any) -> dict[str, str]:
        """Headers that carry a pass."""
        return {"Queue-Pass": self.token(user_id, concert_id, **claims)}
