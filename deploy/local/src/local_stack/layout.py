"""Where everything of a stack is: folders, names of the parts, the services."""

import hashlib
import os
import re
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from local_stack.errors import StackError

SERVICES = ("queue", "concert", "reservation", "payment")
REPLICAS = 2
"""How many processes each service runs as."""
FAKES = ("identity-provider", "data-platform")
INFRASTRUCTURE = (
    "mariadb-primary",
    "mariadb-replica",
    "redis",
    "epmd",
    "rabbitmq",
    "kafka",
)

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


def repository() -> Path:
    """The clone this package belongs to (members are installed editable)."""
    return Path(__file__).resolve().parents[4]


@dataclass(frozen=True)
class Layout:
    """The folders of one stack."""

    name: str
    root: Path
    servers_root: Path | None = None
    """The root that the SQL servers and RabbitMQ come from; None: this system."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise StackError(
                f"{self.name!r} is no stack name: lower-case letters, digits and hyphens, "
                "at most 31"
            )

    @property
    def directory(self) -> Path:
        """Everything that has to survive a restart, and the logs."""
        return self.root / ".stack" / self.name

    @property
    def secrets(self) -> Path:
        """Passwords and keys, readable by the owner only."""
        return self.directory / "secrets"

    @property
    def data(self) -> Path:
        """The servers' data directories."""
        return self.directory / "data"

    @property
    def configuration(self) -> Path:
        """Rendered configuration files; written again at every start."""
        return self.directory / "etc"

    @property
    def logs(self) -> Path:
        """One log file a program."""
        return self.directory / "logs"

    @property
    def gateway_templates(self) -> Path:
        """The nginx templates of the repository."""
        return self.root / "deploy" / "gateway"

    @property
    def python(self) -> Path:
        """The interpreter that services and fakes run with."""
        in_clone = self.root / ".venv" / "bin" / "python"
        return in_clone if in_clone.exists() else Path(sys.executable)

    @property
    def run(self) -> Path:
        """Unix sockets.

        Not below the stack's own directory: a socket's path must be shorter than 108 bytes,
        and a clone may lie arbitrarily deep.
        """
        digest = hashlib.sha256(str(self.directory).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"stagedoor-{os.getuid()}-{digest}"

    def create(self) -> None:
        """Create the folders; refuse a socket folder that somebody else put there."""
        for folder in (self.directory, self.data, self.configuration, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        self.run.mkdir(mode=0o700, exist_ok=True)
        found = self.run.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise StackError(f"{self.run} belongs to somebody else; remove it and try again")
