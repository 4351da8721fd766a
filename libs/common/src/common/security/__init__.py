"""Who is calling: bearer tokens of the OIDC issuer, and the waiting room's passes.

One library verifies both (PyJWT), each with one pinned algorithm: RS256 for identities, EdDSA for
passes. Time comes from the process's `Clock`, never from the wall clock.
"""

from common.security.dependencies import (
    AdminUser,
    CurrentUser,
    QueuePass,
    admin_user,
    current_user,
    pass_invalid,
    queue_pass,
    unauthenticated,
)
from common.security.identity import ADMIN_ROLE, BEARER_ALGORITHM, BearerVerifier, Identity, KeySet
from common.security.passes import (
    PASS_ALGORITHM,
    PASS_AUDIENCE,
    Pass,
    PassSigner,
    PassVerifier,
    public_jwk,
)
from common.security.tokens import TokenInvalid

__all__ = [
    "ADMIN_ROLE",
    "BEARER_ALGORITHM",
    "PASS_ALGORITHM",
    "PASS_AUDIENCE",
    "AdminUser",
    "BearerVerifier",
    "CurrentUser",
    "Identity",
    "KeySet",
    "Pass",
    "PassSigner",
    "PassVerifier",
    "QueuePass",
    "TokenInvalid",
    "admin_user",
    "current_user",
    "pass_invalid",
    "public_jwk",
    "queue_pass",
    "unauthenticated",
]
