"""RabbitMQ: a node of its own (name, epmd, ports, home), vhosts, accounts and exchanges."""

import base64
import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

import httpx

from local_stack import servers
from local_stack.credentials import Credentials, write_secret
from local_stack.layout import SERVICES, Layout
from local_stack.ports import Ports
from local_stack.supervisor import ProgramSpec

NAME = "rabbitmq"
EPMD = "epmd"
VHOST = "stagedoor"
ADMIN = "stack-admin"

_SCRIPT = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_TIMEOUT_SECONDS = 5.0
_SETTLED_SECONDS = 8.0

_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management_port}
default_vhost = {vhost}
default_user = {admin}
default_pass = {admin_password}
load_definitions = {definitions}
heartbeat = 5
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 100MB
raft.wal_max_size_bytes = 67108864
collect_statistics_interval = 1000
log.console = true
log.console.level = info
log.file = false
"""

# Busy waiting of the schedulers would burn a laptop's two cores for nothing.
_ERLANG_ARGUMENTS = (
    "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
)

_ANY_EVENTS = "|".join(SERVICES)


def render(layout: Layout, ports: Ports, credentials: Credentials, *, test_accounts: bool) -> None:
    """Write the node's configuration, plugins and definitions."""
    definitions = layout.secrets / "rabbitmq-definitions.json"
    write_secret(
        definitions,
        json.dumps(_definitions(credentials, test_accounts=test_accounts), indent=1) + "\n",
    )
    write_secret(
        _configuration_file(layout),
        _CONFIGURATION.format(
            port=ports.rabbitmq,
            management_port=ports.rabbitmq_management,
            vhost=VHOST,
            admin=ADMIN,
            admin_password=credentials.broker_admin,
            definitions=definitions,
        ),
    )
    _plugins_file(layout).write_text("[rabbitmq_management].\n")
    _home(layout).mkdir(parents=True, exist_ok=True)


def programs(layout: Layout, ports: Ports) -> list[ProgramSpec]:
    """The node, and its own port mapper so that the system's is not touched."""
    epmd = {"ERL_EPMD_PORT": str(ports.of(EPMD)), "ERL_EPMD_ADDRESS": "127.0.0.1"}
    home = _home(layout)
    return [
        ProgramSpec(name=EPMD, command=servers.command(layout, "epmd"), environment=epmd),
        ProgramSpec(
            name=NAME,
            command=servers.command(layout, _SCRIPT),
            environment={
                **epmd,
                "HOME": str(home),
                "RABBITMQ_NODENAME": f"stagedoor-{layout.name}@localhost",
                "RABBITMQ_DIST_PORT": str(ports.of("rabbitmq-distribution")),
                "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
                "RABBITMQ_LOG_BASE": str(layout.logs),
                "RABBITMQ_PID_FILE": str(layout.run / "rabbitmq.pid"),
                # The extension stays off: older nodes append it themselves.
                "RABBITMQ_CONFIG_FILE": str(_configuration_file(layout).with_suffix("")),
                "RABBITMQ_CONF_ENV_FILE": str(home / "no-rabbitmq-env.conf"),
                "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "no-advanced.config"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(_plugins_file(layout)),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG_ARGUMENTS,
                # The script then becomes the Erlang machine instead of waiting beside it, so
                # that signals reach the process that supervisord knows.
                "RUNNING_UNDER_SYSTEMD": "1",
            },
            # It takes six seconds. Killed earlier, it may lose the registration of a quorum queue
            # declared in the last three (`names.dets`, RabbitMQ 3.10), which then has no leader.
            stop_wait_seconds=20,
        ),
    ]


def answers(ports: Ports, credentials: Credentials) -> bool:
    """Whether the node has booted, imported its definitions and takes connections."""
    try:
        with management(ports, credentials) as client:
            # The management API is there before the listener for clients is, and before the
            # definitions are imported.
            return all(
                client.get(path).is_success
                for path in (
                    f"/health/checks/port-listener/{ports.rabbitmq}",
                    f"/exchanges/{VHOST}/reservation.lanes",
                )
            )
    except httpx.HTTPError:
        return False


def management(ports: Ports, credentials: Credentials) -> httpx.Client:
    """A client of the management API as administrator."""
    return httpx.Client(
        base_url=f"http://127.0.0.1:{ports.rabbitmq_management}/api",
        auth=(ADMIN, credentials.broker_admin),
        timeout=_TIMEOUT_SECONDS,
        trust_env=False,
    )


def add_vhost(ports: Ports, credentials: Credentials, vhost: str, *, test_accounts: bool) -> None:
    """Create a vhost like the main one: same accounts, same rights, same exchanges.

    Idempotent.
    """
    parts = _vhost_definitions(vhost, test_accounts=test_accounts)
    with management(ports, credentials) as client:
        client.put(f"/vhosts/{vhost}").raise_for_status()
        for permission in parts["permissions"]:
            client.put(
                f"/permissions/{vhost}/{permission['user']}",
                json={key: permission[key] for key in ("configure", "write", "read")},
            ).raise_for_status()
        for exchange in parts["exchanges"]:
            client.put(
                f"/exchanges/{vhost}/{exchange['name']}",
                json={"type": exchange["type"], "durable": True},
            ).raise_for_status()


def remove_vhost(ports: Ports, credentials: Credentials, vhost: str) -> None:
    """Delete a vhost with everything in it."""
    with management(ports, credentials) as client:
        _wait_until_settled(client)
        answer = client.delete(f"/vhosts/{vhost}")
        if answer.status_code != httpx.codes.NOT_FOUND:
            answer.raise_for_status()


def _wait_until_settled(client: httpx.Client) -> None:
    """Wait out the first moments of a node.

    In RabbitMQ 3.10 a quorum queue that is deleted while its dead-letter worker is being set up
    takes down the supervisor of all such workers; then no queue with at-least-once dead-lettering
    works until the node restarts.
    """
    uptime_seconds = client.get("/nodes").raise_for_status().json()[0].get("uptime", 0) / 1000
    time.sleep(max(0.0, _SETTLED_SECONDS - uptime_seconds))


def _definitions(credentials: Credentials, *, test_accounts: bool) -> dict[str, Any]:
    users = [_user(ADMIN, credentials.broker_admin, "administrator")]
    users += [_user(service, credentials.broker[service], "") for service in SERVICES]
    if test_accounts:
        users.append(_user("test-admin", credentials.test_admin, "administrator"))
    return {
        "users": users,
        "vhosts": [{"name": VHOST}],
        **_vhost_definitions(VHOST, test_accounts=test_accounts),
        "policies": [],
        "parameters": [],
        "queues": [],
        "bindings": [],
    }


def _vhost_definitions(vhost: str, *, test_accounts: bool) -> dict[str, list[dict[str, Any]]]:
    permissions = [_permission(vhost, ADMIN, ".*", ".*", ".*")]
    for service in SERVICES:
        own = rf"^{re.escape(service)}\..*"
        permissions.append(
            _permission(vhost, service, own, own, rf"{own}|^({_ANY_EVENTS})\.events$")
        )
    if test_accounts:
        permissions.append(_permission(vhost, "test-admin", ".*", ".*", ".*"))
    exchanges = [_exchange(vhost, f"{service}.events", "topic") for service in SERVICES]
    exchanges.append(_exchange(vhost, "reservation.lanes", "direct"))
    return {"permissions": permissions, "exchanges": exchanges}


def _permission(vhost: str, user: str, configure: str, write: str, read: str) -> dict[str, str]:
    return {"user": user, "vhost": vhost, "configure": configure, "write": write, "read": read}


def _exchange(vhost: str, name: str, kind: str) -> dict[str, Any]:
    return {
        "name": name,
        "vhost": vhost,
        "type": kind,
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }


def _user(name: str, password: str, tags: str) -> dict[str, Any]:
    """A user with RabbitMQ's salted hash of the password.

    The salt follows from the password, so that the file is the same at every start.
    """
    salt = hashlib.sha256(b"stagedoor" + name.encode() + password.encode()).digest()[:4]
    hashed = salt + hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(hashed).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    }


def _home(layout: Layout) -> Path:
    return layout.data / NAME


def _configuration_file(layout: Layout) -> Path:
    return layout.configuration / "rabbitmq.conf"


def _plugins_file(layout: Layout) -> Path:
    return layout.configuration / "rabbitmq-plugins"
