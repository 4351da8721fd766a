"""Passwords and keys of one stack: random, made once, readable by their owner only."""

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from local_stack.layout import SERVICES

PASS_KEY_ID = "pass-1"  # noqa: S105 - a key's public name
"""``kid`` of the queue passes' first signing key; stem of its public PEM file."""


@dataclass(frozen=True)
class Credentials:
    """Passwords by account. The dictionaries are keyed by service (``queue``, ``concert``, …).

    Accounts: ``<service>_service`` and ``<service>_migrator`` in MariaDB; ``<service>`` in Redis
    and RabbitMQ.
    """

    database: dict[str, str]
    database_migrator: dict[str, str]
    database_replication: str
    audit: str
    """Password of MariaDB's account ``audit``, which only reads."""
    redis: dict[str, str]
    redis_admin: str
    """Password of Redis' account ``stack-admin``."""
    broker: dict[str, str]
    broker_admin: str
    """Password of RabbitMQ's account ``stack-admin`` (readiness, vhosts)."""
    test_admin: str
    """Password of ``test-admin`` in RabbitMQ, MariaDB and Redis; stacks for tests only."""


def load(secrets_folder: Path) -> Credentials:
    """Read the stack's passwords; make those that are missing."""
    file = secrets_folder / "credentials.json"
    stored = json.loads(file.read_text()) if file.exists() else {}
    fresh = asdict(_random()) | stored
    if fresh != stored:
        write_secret(file, json.dumps(fresh, indent=2) + "\n")
    return Credentials(**fresh)


def _random() -> Credentials:
    def one() -> str:
        return secrets.token_urlsafe(24)

    def each_service() -> dict[str, str]:
        return {service: one() for service in SERVICES}

    return Credentials(
        database=each_service(),
        database_migrator=each_service(),
        database_replication=one(),
        audit=one(),
        redis=each_service(),
        redis_admin=one(),
        broker=each_service(),
        broker_admin=one(),
        test_admin=one(),
    )


@dataclass(frozen=True)
class KeyFiles:
    """Where the keys of a stack are."""

    folder: Path

    @property
    def pass_signing_key(self) -> Path:
        """Private Ed25519 PEM; the stem of its name is the ``kid``. For queue-service only."""
        return self.folder / "queue-service" / f"{PASS_KEY_ID}.pem"

    @property
    def ticket_key(self) -> Path:
        """32 random bytes, hexadecimal: signs queue tickets. For queue-service only."""
        return self.folder / "queue-service" / "ticket.key"

    @property
    def pass_public_keys(self) -> Path:
        """Folder of public PEM files, one a ``kid``; every service reads it."""
        return self.folder / "pass-public-keys"

    def create(self) -> None:
        """Make the keys that do not exist yet."""
        self.pass_signing_key.parent.mkdir(mode=0o700, exist_ok=True)
        self.pass_public_keys.mkdir(mode=0o700, exist_ok=True)
        if not self.ticket_key.exists():
            write_secret(self.ticket_key, secrets.token_hex(32) + "\n")
        public = self.pass_public_keys / f"{PASS_KEY_ID}.pem"
        if self.pass_signing_key.exists() and public.exists():
            return
        key = Ed25519PrivateKey.generate()
        private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_secret(self.pass_signing_key, private_pem.decode())
        public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        write_secret(public, public_pem.decode())


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    fresh = file.with_name(file.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(file)
