"""What queue-service is told from outside; units are in the names."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from common.settings import CommonSettings


class QueueSettings(CommonSettings):
    """Beside the common settings: the keys it signs with, and how often a turn is taken."""

    service_name: ClassVar[str] = "queue"

    pass_signing_key_file: Path
    """Ed25519 private key, PEM; the file's stem is the key id."""
    ticket_key_file: Path
    """Keys of signed tickets, one a line, hexadecimal, at least 32 bytes; the first one signs."""

    turn_seconds: Annotated[float, Field(gt=0, le=0.2)] = 0.15
    """Pause between two turns of a room by one process."""
    steer_seconds: Annotated[float, Field(gt=0, le=0.8)] = 0.4
    """Pause between two looks for policies changed by another process."""
    lease_seconds: Annotated[float, Field(gt=0, le=10)] = 2.0
    """How long a process may take to write what a turn handed out."""
    numbers_reserved: Annotated[int, Field(ge=10)] = 20_000
    """Arrival numbers reserved in MySQL at a time; at most so many are skipped after a loss."""
    recovery_hold_seconds: Annotated[float, Field(ge=0)] | None = None
    """Pause of admissions after Redis lost data; default: the longest poll interval."""
