"""What every token must prove, whoever signed it. Moments are compared on our clock."""

from collections.abc import Mapping
from typing import Any

import jwt

LONGEST_TOKEN = 8192
CACHED_TOKENS = 20_000
"""Verdicts remembered of each kind, in each process."""
REFRESH_SECONDS = 5.0
"""Least time between two looks for an unknown key."""

_LEEWAY_SECONDS = 0
_LONGEST_USER_ID = 128


class TokenInvalid(Exception):  # noqa: N818 - a verdict; never leaves as it is
    """The token proves nothing; the reason is for logs and tests."""


def claims_of(token: str, key: Any, algorithm: str, audience: str, issuer: str | None) -> Any:
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


def check_times(claims: Mapping[str, Any], now: float) -> float:
    """The token's ``exp`` in epoch seconds, when it is valid now."""
    expires = _moment(claims, "exp")
    if expires is None or now >= expires + _LEEWAY_SECONDS:
        raise TokenInvalid("expired")
    not_before = _moment(claims, "nbf")
    if not_before is not None and now < not_before:
        raise TokenInvalid("not valid yet")
    return expires


def user_id_of(claims: Mapping[str, Any]) -> str:
    """The ``sub`` of a token: 1 to 128 printable characters.

    Raises:
        TokenInvalid: it names nobody we could keep in a row.
    """
    user_id = claims.get("sub")
    if not isinstance(user_id, str) or not 1 <= len(user_id) <= _LONGEST_USER_ID:
        raise TokenInvalid("sub is no user id")
    if not user_id.isprintable() or any("\ud800" <= char <= "\udfff" for char in user_id):
        raise TokenInvalid("sub is no user id")
    # To SQL "fan " and "fan" are one and the same: the second would own the first one's wallet.
    if user_id.endswith(" "):
        raise TokenInvalid("sub is no user id")
    return user_id


def key_id_of(token: str, algorithm: str) -> str:
    """The key id of a token that claims to be signed the only accepted way."""
    if len(token) > LONGEST_TOKEN:
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
