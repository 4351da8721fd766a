"""``make verify``: every invariant over a live stack."""

from pydantic import SecretStr

from audit import Source
from local_stack.stack import Stack


def source_of(stack: Stack) -> Source:
    """Where and as whom the audit reads this stack."""
    return Source(
        "127.0.0.1", stack.ports.mariadb_primary, "audit", SecretStr(stack.credentials.audit)
    )
