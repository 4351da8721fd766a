"""What the data platform is told from outside."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.events.payment import KAFKA_TOPIC


class DataPlatformSettings(BaseSettings):
    """Environment variables carry the upper-case field names."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=1, le=65535)] = 8091
    kafka_bootstrap: str
    """``host:port``, several separated by commas."""
    kafka_topic: str = KAFKA_TOPIC
    kafka_group: str = "data-platform"
    data_dir: Path
    """Where the analytic database is kept between restarts."""
    print_every_seconds: Annotated[float, Field(gt=0)] = 5.0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    drain_seconds: Annotated[float, Field(gt=0)] = 5.0
