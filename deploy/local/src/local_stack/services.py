"""The four services and the fakes as programs of the stack: commands and environment."""

from collections.abc import Mapping

from local_stack import kafka, rabbitmq
from local_stack.credentials import Credentials, KeyFiles, write_secret
from local_stack.layout import FAKES, REPLICAS, SERVICES, Layout
from local_stack.ports import Ports
from local_stack.supervisor import ProgramSpec

IDENTITY_AUDIENCE = "stagedoor"
DRAIN_SECONDS = 20


def replica_names(service: str) -> list[str]:
    """Program names of a service's replicas, such as ``queue-service-1``."""
    return [f"{service}-service-{number}" for number in range(1, REPLICAS + 1)]


def names() -> list[str]:
    """Program names of every service and fake."""
    return [*FAKES, *(name for service in SERVICES for name in replica_names(service))]


def programs(layout: Layout, ports: Ports) -> list[ProgramSpec]:
    """Two processes a service, and the fakes."""
    python = str(layout.python)
    specs = [
        ProgramSpec(
            name=fake,
            command=(python, "-m", fake.replace("-", "_")),
            environment=fake_environment(layout, ports, fake),
        )
        for fake in FAKES
    ]
    specs += [
        ProgramSpec(
            name=f"{service}-service-{number}",
            command=(python, "-m", f"{service}_service", "serve"),
            environment=environment(layout, ports, service, number),
            stop_wait_seconds=DRAIN_SECONDS + 5,
        )
        for service in SERVICES
        for number in range(1, REPLICAS + 1)
    ]
    return specs


def migrate_command(layout: Layout, service: str) -> list[str]:
    """The job that brings a service's schema up to date."""
    return [str(layout.python), "-m", f"{service}_service", "migrate"]


def environment(layout: Layout, ports: Ports, service: str, number: int) -> dict[str, str]:
    """Settings of one replica; its passwords are files in ``SECRETS_DIR``."""
    keys = KeyFiles(layout.secrets)
    settings = {
        "ENVIRONMENT": "local",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(ports.replica(service, number)),
        "SECRETS_DIR": str(layout.secrets / f"{service}-service"),
        "DATABASE_PRIMARY_HOST": "127.0.0.1",
        "DATABASE_PRIMARY_PORT": str(ports.mariadb_primary),
        "DATABASE_REPLICA_HOST": "127.0.0.1",
        "DATABASE_REPLICA_PORT": str(ports.mariadb_replica),
        "DATABASE_SCHEMA": service,
        "DATABASE_USER": f"{service}_service",
        "REDIS_URL": f"redis://127.0.0.1:{ports.redis}/0",
        "REDIS_USERNAME": service,
        "REDIS_PREFIX": f"{service}:",
        "BROKER_URL": f"amqp://127.0.0.1:{ports.rabbitmq}/{rabbitmq.VHOST}",
        "BROKER_USER": service,
        "KAFKA_BOOTSTRAP": kafka.bootstrap(ports),
        **_identity(ports),
        "IDENTITY_JWKS_URL": f"{_issuer(ports)}/.well-known/jwks.json",
        "PASS_PUBLIC_KEYS_DIR": str(keys.pass_public_keys),
        "DRAIN_SECONDS": str(DRAIN_SECONDS),
        "PYTHONUNBUFFERED": "1",
    }
    if service == "queue":
        settings["PASS_SIGNING_KEY_FILE"] = str(keys.pass_signing_key)
        settings["TICKET_KEY_FILE"] = str(keys.ticket_key)
    return settings


def migration_environment(
    layout: Layout, ports: Ports, credentials: Credentials, service: str
) -> dict[str, str]:
    """Settings of the migration job: the service's, and the account that may change tables."""
    return {
        **environment(layout, ports, service, 1),
        "DATABASE_MIGRATOR_USER": f"{service}_migrator",
        "DATABASE_MIGRATOR_PASSWORD": credentials.database_migrator[service],
    }


def fake_environment(layout: Layout, ports: Ports, fake: str) -> dict[str, str]:
    """Settings of a fake."""
    data = layout.data / fake
    data.mkdir(parents=True, exist_ok=True)
    settings = {
        "ENVIRONMENT": "local",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(ports.of(fake)),
        "PYTHONUNBUFFERED": "1",
        "DATA_DIR": str(data),
    }
    if fake == "identity-provider":
        return {**settings, **_identity(ports)}
    return {**settings, "KAFKA_BOOTSTRAP": kafka.bootstrap(ports), "KAFKA_TOPIC": kafka.TOPIC}


def write_secrets(layout: Layout, credentials: Credentials) -> None:
    """One folder a service, one file a password, named like the setting."""
    for service in SERVICES:
        folder = layout.secrets / f"{service}-service"
        folder.mkdir(mode=0o700, exist_ok=True)
        passwords: Mapping[str, str] = {
            "database_password": credentials.database[service],
            "redis_password": credentials.redis[service],
            "broker_password": credentials.broker[service],
        }
        for name, password in passwords.items():
            write_secret(folder / name, password)


def _issuer(ports: Ports) -> str:
    return f"http://127.0.0.1:{ports.of('identity-provider')}"


def _identity(ports: Ports) -> dict[str, str]:
    return {"IDENTITY_ISSUER": _issuer(ports), "IDENTITY_AUDIENCE": IDENTITY_AUDIENCE}
