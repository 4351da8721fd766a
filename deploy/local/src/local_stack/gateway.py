"""nginx as load balancer and API gateway: rendered from ``deploy/gateway``."""

import getpass
import os
import shutil
import string
from dataclasses import dataclass
from pathlib import Path

import httpx

from local_stack import servers
from local_stack.layout import SERVICES, Layout
from local_stack.ports import Ports
from local_stack.services import replica_names
from local_stack.supervisor import ProgramSpec

NAME = "gateway"
_PLACEHOLDER = r"@(?:(?P<escaped>(?!))|(?P<named>(?!))|\{(?P<braced>[a-z_]+)\}|(?P<invalid>\{))"


class Template(string.Template):
    """``@{name}``: nginx has the dollar sign for itself."""

    delimiter = "@"
    # string.Template compiles the text when the class is made; typeshed knows the result only.
    pattern = _PLACEHOLDER  # type: ignore[assignment]


@dataclass(frozen=True)
class Limits:
    """What one client address may do.

    All fans of a demo come from one address, so the defaults are far above what a real gateway
    would grant; ``deploy/gateway/README.md`` names the production values.
    """

    requests_per_second: int = 20_000
    burst: int = 20_000
    connections: int = 8_000


def render(layout: Layout, ports: Ports, limits: Limits) -> None:
    """Write nginx' configuration and copy the pages it serves itself."""
    folder = layout.configuration / NAME
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(layout.gateway_templates / "docs", folder / "docs")
    temporary = layout.data / NAME
    temporary.mkdir(parents=True, exist_ok=True)
    values = {
        "user_directive": f"user {getpass.getuser()};" if os.getuid() == 0 else "",
        "error_log": str(layout.logs / "gateway-error.log"),
        "access_log": str(layout.logs / "gateway-access.log"),
        "pid_file": str(layout.run / "nginx.pid"),
        "temporary_directory": str(temporary),
        "docs_directory": str(folder / "docs"),
        "listen": f"127.0.0.1:{ports.gateway}",
        "requests_per_second": str(limits.requests_per_second),
        "burst": str(limits.burst),
        "connections": str(limits.connections),
        "identity_provider": f"127.0.0.1:{ports.of('identity-provider')}",
        **{
            f"{service}_servers": "\n".join(
                f"        server 127.0.0.1:{ports.of(name)} max_fails=1 fail_timeout=1s;"
                for name in replica_names(service)
            )
            for service in SERVICES
        },
    }
    for template in sorted(layout.gateway_templates.glob("*.template")):
        text = Template(template.read_text()).substitute(values)
        (folder / template.stem).write_text(text)


def program(layout: Layout) -> ProgramSpec:
    """The server, in the foreground."""
    return ProgramSpec(
        name=NAME,
        command=(
            servers.program("nginx"),
            "-e",
            str(layout.logs / "gateway-error.log"),
            "-p",
            str(layout.configuration / NAME),
            "-c",
            str(configuration_file(layout)),
        ),
        stop_wait_seconds=5,
        directory=layout.configuration / NAME,
    )


def configuration_file(layout: Layout) -> Path:
    """The rendered main file."""
    return layout.configuration / NAME / "nginx.conf"


def url(ports: Ports) -> str:
    """Where people find the gateway."""
    return f"http://127.0.0.1:{ports.gateway}"


def answers(ports: Ports) -> bool:
    """Whether nginx itself answers, whatever is behind it."""
    try:
        return httpx.get(f"{url(ports)}/health", timeout=1, trust_env=False).is_success
    except httpx.HTTPError:
        return False
