"""What every service is told from outside: addresses, accounts, limits. Units are in the names.

Environment variables carry the upper-case field names. A secret may instead be a file of that
name (lower case) in ``$SECRETS_DIR``, as Kubernetes mounts it; the environment wins over the file.
"""

import os
import socket
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

Port = Annotated[int, Field(ge=1, le=65535)]


def _instance() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class CommonSettings(BaseSettings):
    """Base of every service's settings; the service fixes ``service_name``."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    service_name: ClassVar[str]
    """``queue``, ``concert``, ``reservation`` or ``payment``: names schema, accounts, prefix."""

    instance: str = Field(default_factory=_instance)
    """Unique for each process: names its answer channel and its leases."""
    environment: Literal["local", "compose", "production"] = "local"

    http_host: str = "127.0.0.1"
    http_port: Port = 8080

    database_primary_host: str
    database_primary_port: Port = 3306
    database_replica_host: str
    database_replica_port: Port = 3306
    database_schema: str
    """Default: the service's name."""
    database_user: str
    """Default: the service's name."""
    database_password: SecretStr
    database_tls_ca_file: Path | None = None
    """PEM; when given, connections are encrypted and the server's certificate is checked."""
    database_pool_size: Annotated[int, Field(ge=1, le=1000)] = 10
    """Connections to each of primary and replica."""
    database_timeout_seconds: Annotated[float, Field(gt=0)] = 2.0
    """Longest wait for a connection, and for one statement."""
    replica_max_lag_seconds: Annotated[float, Field(gt=0)] = 2.0
    database_migrator_user: str | None = None
    database_migrator_password: SecretStr | None = None

    redis_url: str
    """``redis://host:port/db`` or ``rediss://``, without credentials."""
    redis_username: str | None = None
    redis_password: SecretStr | None = None
    redis_prefix: str
    """Default: the service's name and a colon."""
    redis_pool_size: Annotated[int, Field(ge=1)] = 32
    redis_timeout_seconds: Annotated[float, Field(gt=0)] = 1.0

    broker_url: str
    """``amqp://host:port/vhost`` or ``amqps://``, without credentials."""
    broker_user: str
    """Default: the service's name."""
    broker_password: SecretStr

    kafka_bootstrap: str | None = None

    identity_issuer: str
    identity_audience: str = "stagedoor"
    identity_jwks_url: str
    """``http(s)://`` or ``file://``."""
    pass_public_keys_dir: Path
    """PEM files; a file's stem is its key id."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    drain_seconds: Annotated[float, Field(gt=0)] = 20.0
    """Longest time between SIGTERM and the end of the process."""

    @model_validator(mode="before")
    @classmethod
    def _named_for_the_service(cls, data: Any) -> Any:
        for field in ("database_schema", "database_user", "broker_user"):
            data.setdefault(field, cls.service_name)
        data.setdefault("redis_prefix", f"{cls.service_name}:")
        return data

    @field_validator("redis_url", "broker_url")
    @classmethod
    def _without_credentials(cls, url: str) -> str:
        # A URL is logged and shown in errors; a password in it would be too.
        if "@" in url:
            raise ValueError("must not contain credentials: use the user and password settings")
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then secret files; no dotenv file."""
        del dotenv_settings, file_secret_settings
        directory = os.environ.get("SECRETS_DIR")
        if not directory:
            return (init_settings, env_settings)
        secrets = SecretsSettingsSource(settings_cls, secrets_dir=directory)
        return (init_settings, env_settings, secrets)
