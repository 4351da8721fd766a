"""Redis: durable enough for the line (AOF), never evicting, one ACL user a service."""

import hashlib
from pathlib import Path

import redis

from local_stack import servers
from local_stack.credentials import Credentials, write_secret
from local_stack.layout import SERVICES, Layout
from local_stack.ports import Ports
from local_stack.supervisor import ProgramSpec

NAME = "redis"

# appendfsync everysec: a crash of the process loses nothing (every write is handed to the
# kernel before it is answered), a crash of the machine at most the last second. See
# docs/decisions/ on what the line promises.
_CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir {directory}
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory 1gb
maxmemory-policy noeviction
tcp-backlog 1024
timeout 0
aclfile {acl_file}
"""

_SERVICE_COMMANDS = (
    "+@all -@admin -@dangerous +info"
    # These reach beyond the account's own keys and channels, whatever its patterns say.
    " -scan -randomkey -dbsize -pubsub|channels -swapdb -script|flush -script|kill"
    " -function -select -wait"
)


def data_directory(layout: Layout) -> Path:
    """Where the append-only file is."""
    return layout.data / NAME


def render(layout: Layout, ports: Ports, credentials: Credentials, *, test_accounts: bool) -> None:
    """Write configuration and access list."""
    data_directory(layout).mkdir(parents=True, exist_ok=True)
    acl_file = layout.secrets / "redis.acl"
    write_secret(acl_file, "\n".join(_acl(credentials, test_accounts=test_accounts)) + "\n")
    _option_file(layout).write_text(
        _CONFIGURATION.format(
            port=ports.redis,
            directory=_quoted(data_directory(layout)),
            acl_file=_quoted(acl_file),
        )
    )


def program(layout: Layout) -> ProgramSpec:
    """The server."""
    return ProgramSpec(
        name=NAME, command=(servers.program("redis-server"), str(_option_file(layout)))
    )


def answers(ports: Ports, credentials: Credentials) -> bool:
    """Whether the server has loaded its data and takes commands."""
    try:
        with admin(ports, credentials) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def admin(ports: Ports, credentials: Credentials) -> redis.Redis:
    """A client with every right."""
    return redis.Redis(
        host="127.0.0.1",
        port=ports.redis,
        username="stack-admin",
        password=credentials.redis_admin,
        socket_timeout=2,
        socket_connect_timeout=1,
    )


def _acl(credentials: Credentials, *, test_accounts: bool) -> list[str]:
    lines = [
        "user default off nopass resetkeys resetchannels -@all",
        f"user stack-admin on #{_sha256(credentials.redis_admin)} ~* &* +@all",
    ]
    for service in SERVICES:
        patterns = [f"{service}:*"] + ([f"{service}_*"] if test_accounts else [])
        reach = " ".join([f"~{p} &{p}" for p in patterns])
        lines.append(
            f"user {service} on #{_sha256(credentials.redis[service])} resetchannels {reach}"
            f" {_SERVICE_COMMANDS}"
        )
    if test_accounts:
        lines.append(f"user test-admin on #{_sha256(credentials.test_admin)} ~* &* +@all")
    return lines


def _sha256(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _option_file(layout: Layout) -> Path:
    return layout.configuration / "redis.conf"
