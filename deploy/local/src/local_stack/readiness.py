"""Whether a program of the stack does its work, as far as can be seen from outside."""

from collections.abc import Callable

import httpx

from local_stack import gateway, kafka, mariadb, rabbitmq, redis_server
from local_stack.credentials import Credentials
from local_stack.layout import Layout
from local_stack.ports import Ports
from local_stack.supervisor import Supervisor

TIMEOUT_SECONDS = 2.0


def answers(
    program: str,
    layout: Layout,
    ports: Ports,
    credentials: Credentials,
    supervisor: Supervisor,
) -> bool:
    """Ask a program in its own protocol; services and fakes are asked ``/health/ready``."""
    checks: dict[str, Callable[[], bool]] = {
        mariadb.PRIMARY: lambda: mariadb.answers(layout, program),
        mariadb.REPLICA: lambda: mariadb.answers(layout, program),
        redis_server.NAME: lambda: redis_server.answers(ports, credentials),
        rabbitmq.EPMD: lambda: supervisor.program(program).running,
        rabbitmq.NAME: lambda: rabbitmq.answers(ports, credentials),
        kafka.NAME: lambda: kafka.answers(ports),
        gateway.NAME: lambda: gateway.answers(ports),
    }
    check = checks.get(program)
    return check() if check else _says_ready(ports.of(program))


def _says_ready(port: int) -> bool:
    try:
        answer = httpx.get(
            f"http://127.0.0.1:{port}/health/ready", timeout=TIMEOUT_SECONDS, trust_env=False
        )
    except httpx.HTTPError:
        return False
    return answer.is_success
