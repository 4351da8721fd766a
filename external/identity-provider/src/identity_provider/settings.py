"""What the issuer is told from outside."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class IdentityProviderSettings(BaseSettings):
    """Environment variables carry the upper-case field names."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    environment: Literal["local", "compose"] = "local"
    """There is no production value: this issuer believes whoever asks."""
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=1, le=65535)] = 8090
    identity_issuer: str
    """The ``iss`` of every token; also the base of the discovery document's addresses."""
    identity_audience: str = "stagedoor"
    data_dir: Path
    """Where the signing keys are kept between restarts, in ``keys/``."""
    token_ttl_seconds: Annotated[int, Field(ge=1, le=86_400)] = 3600
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    drain_seconds: Annotated[float, Field(gt=0)] = 5.0
