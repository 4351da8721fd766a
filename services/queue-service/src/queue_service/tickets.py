"""Signed tickets: what a fan can show when the server forgot the place.

``1.<payload>.<signature>``, HMAC-SHA256 over a compact payload. Bound to user, concert, number and
epoch; the ticket's own id ties it to one place. Only queue-service reads it.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence

from queue_service.domain import Claim

_VERSION = "1"
_LONGEST = 2_048


class Tickets:
    """Signs with the first key, accepts any: rotation overlaps."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) < hashlib.sha256().digest_size for key in keys):
            raise ValueError("ticket keys must be at least 32 bytes")
        self._keys = tuple(keys)

    def sign(self, claim: Claim) -> str:
        """The ticket's text."""
        fields = [claim.concert_id, claim.user_id, claim.ticket_id, claim.number, claim.epoch]
        body = f"{_VERSION}.{_encode(json.dumps(fields, separators=(',', ':')).encode())}"
        return f"{body}.{_encode(_mac(self._keys[0], body))}"

    def read(self, token: str | None, *, concert_id: str, user_id: str) -> Claim | None:
        """What the ticket says, if it is ours, whole, and this user's for this concert."""
        if token is None or len(token) > _LONGEST or not token.isascii():
            return None
        body, _, signature = token.rpartition(".")
        given = _decode(signature)
        if given is None or not any(
            hmac.compare_digest(_mac(key, body), given) for key in self._keys
        ):
            return None
        version, _, payload = body.partition(".")
        fields = json.loads(_decode(payload) or b"null")
        if version != _VERSION:
            return None
        claim = Claim(*fields)
        return claim if (claim.concert_id, claim.user_id) == (concert_id, user_id) else None


def _mac(key: bytes, body: str) -> bytes:
    return hmac.digest(key, body.encode(), "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
