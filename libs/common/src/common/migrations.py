r"""Migrations: Alembic over a service's own revisions, run as a job and never at start-up.

A service keeps ``migrations/versions/000N_*.py``: plain SQL by ``op.execute``, one DDL statement a
revision (the engines commit after each), forward only. ``:`` in that SQL is written ``\:``.
"""

import importlib.util
import ssl
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from common.database import Database
from common.errors import StagedoorError
from common.settings import CommonSettings

_ENVIRONMENT = Path(__file__).parent / "alembic_environment"
_LOCK_SECONDS = 60


class MigrationError(StagedoorError):
    """The schema could not be migrated; the text tells a person why."""


def migrate(settings: CommonSettings, script_location: str | Path) -> None:
    """Bring the schema to the newest revision; blocks the thread. Does nothing when it is there.

    Args:
        settings: with the migrator's account, which alone may change tables.
        script_location: folder with ``versions``, or the package that is one.

    Raises:
        MigrationError: no migrator account, no such revisions, another migration holds the lock
            for too long, or the server refused; what ran before stays.
    """
    user, password = settings.database_migrator_user, settings.database_migrator_password
    if user is None or password is None:
        raise MigrationError(
            "DATABASE_MIGRATOR_USER and DATABASE_MIGRATOR_PASSWORD are needed to migrate"
        )
    url = URL.create(
        "mysql+pymysql",
        username=user,
        password=password.get_secret_value(),
        host=settings.database_primary_host,
        port=settings.database_primary_port,
        database=settings.database_schema,
        query={"charset": "utf8mb4"},
    )
    arguments: dict[str, Any] = {"connect_timeout": 5, "read_timeout": 600}
    if settings.database_tls_ca_file is not None:
        arguments["ssl"] = ssl.create_default_context(cafile=settings.database_tls_ca_file)
    config = _config(script_location)
    engine = create_engine(url, connect_args=arguments, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            _upgrade(connection, settings.database_schema, config)
    except DBAPIError as error:
        raise MigrationError(f"schema {settings.database_schema}: {error.orig}") from error


def _upgrade(connection: Connection, schema: str, config: Config) -> None:
    lock = {"name": f"{schema}.migrations", "seconds": _LOCK_SECONDS}
    # The lock belongs to the session, so it outlives the commit that every DDL statement implies.
    if connection.scalar(text("SELECT GET_LOCK(:name, :seconds)"), lock) != 1:
        raise MigrationError(f"another migration of {schema} is running")
    try:
        connection.commit()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    finally:
        if not connection.invalidated:
            connection.rollback()
            connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": lock["name"]})


async def schema_is_current(database: Database, script_location: str | Path) -> bool:
    """Whether the schema is at least at this code's newest revision.

    A revision this code does not know is a newer one: during a rollout the migration runs first,
    and the old replicas go on serving.

    Raises:
        DependencyUnavailable: the primary does not answer.
    """
    scripts = ScriptDirectory.from_config(_config(script_location))
    async with database.primary() as session:
        exists = await session.fetch_value(
            "SELECT COUNT(*) FROM information_schema.tables"
            " WHERE table_schema = DATABASE() AND table_name = 'alembic_version'"
        )
        if not exists:
            return False
        revision = await session.fetch_value("SELECT version_num FROM alembic_version")
    known = {script.revision for script in scripts.walk_revisions()}
    return revision is not None and (revision not in known or revision in scripts.get_heads())


def _config(script_location: str | Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(_folder(script_location) / "versions"))
    return config


def _folder(script_location: str | Path) -> Path:
    if isinstance(script_location, Path):
        return script_location
    try:
        spec = importlib.util.find_spec(script_location)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MigrationError(f"no package {script_location}")
    return Path(next(iter(spec.submodule_search_locations)))
