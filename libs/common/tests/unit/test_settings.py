"""Settings come from arguments, the environment and secret files, in that order."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from common.settings import CommonSettings


class QueueSettings(CommonSettings):
    service_name: ClassVar[str] = "queue"


ENVIRONMENT = {
    "DATABASE_PRIMARY_HOST": "primary",
    "DATABASE_REPLICA_HOST": "replica",
    "DATABASE_PASSWORD": "from the environment",
    "REDIS_URL": "redis://cache:6379/0",
    "BROKER_URL": "amqp://broker:5672/stagedoor",
    "BROKER_PASSWORD": "b",
    "IDENTITY_ISSUER": "https://issuer",
    "IDENTITY_JWKS_URL": "https://issuer/jwks",
    "PASS_PUBLIC_KEYS_DIR": "/keys",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CommonSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("SECRETS_DIR", raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def load(**values: Any) -> QueueSettings:
    return QueueSettings(**values)


class TestSources:
    def test_names_follow_from_the_service(self) -> None:
        settings = load()
        assert settings.database_schema == "queue"
        assert settings.database_user == "queue"
        assert settings.broker_user == "queue"
        assert settings.redis_prefix == "queue:"

    def test_names_can_be_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DATABASE_USER", "queue_service")
        monkeypatch.setenv("REDIS_PREFIX", "queue_t0:")
        assert load().database_user == "queue_service"
        assert load().redis_prefix == "queue_t0:"
        assert load(redis_prefix="queue_t1:").redis_prefix == "queue_t1:"

    def test_a_secret_may_be_a_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "database_password").write_text("from a file\n")
        (tmp_path / "broker_password").write_text("hidden by the environment")
        monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
        monkeypatch.delenv("DATABASE_PASSWORD")
        settings = load()
        assert settings.database_password.get_secret_value() == "from a file"
        assert settings.broker_password.get_secret_value() == "b"

    def test_an_empty_variable_counts_as_absent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KAFKA_BOOTSTRAP", "")
        assert load().kafka_bootstrap is None

    def test_the_instance_names_the_process(self) -> None:
        assert load().instance == load().instance
        assert "-" in load().instance


class TestRefusals:
    @pytest.mark.parametrize("missing", sorted(ENVIRONMENT))
    def test_what_is_required(self, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
        monkeypatch.delenv(missing)
        with pytest.raises(ValidationError, match=missing.lower()):
            load()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("redis_url", "redis://user:secret@cache/0"),
            ("broker_url", "amqp://user:secret@broker/v"),
            ("database_pool_size", 0),
            ("database_timeout_seconds", 0),
            ("http_port", 70_000),
            ("environment", "staging"),
            ("log_level", "chatty"),
        ],
    )
    def test_bad_values(self, field: str, value: object) -> None:
        with pytest.raises(ValidationError, match=field):
            load(**{field: value})

    def test_they_cannot_be_changed_afterwards(self) -> None:
        settings = load()
        with pytest.raises(ValidationError, match="frozen"):
            settings.http_port = 1

    def test_secrets_are_not_printed(self) -> None:
        assert "from the environment" not in repr(load())
