"""Revisions run once, under a lock, and readiness knows whether they have."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.database import Database
from common.migrations import MigrationError, migrate, schema_is_current
from common.settings import CommonSettings
from testkit import Infrastructure

REVISION = '''"""Table {name}."""

from alembic import op

revision = "{name}"
down_revision = {down!r}


def upgrade() -> None:
    op.execute("CREATE TABLE t{name} (id INT NOT NULL, PRIMARY KEY (id)) ENGINE=InnoDB")
'''


@pytest.fixture
def revisions(tmp_path: Path) -> Path:
    (tmp_path / "versions").mkdir()
    write(tmp_path, "0001", None)
    write(tmp_path, "0002", "0001")
    return tmp_path


def write(folder: Path, name: str, down: str | None) -> None:
    (folder / "versions" / f"{name}.py").write_text(REVISION.format(name=name, down=down))


@pytest.fixture
def empty_schema(
    infrastructure: Infrastructure, probe_settings: CommonSettings
) -> Iterator[CommonSettings]:
    schema = f"migrated_{infrastructure.slot}"
    password = infrastructure.stack.credentials.test_admin
    with infrastructure.root() as cursor:
        cursor.execute(f"CREATE DATABASE `{schema}`")
        update = {
            "database_schema": schema,
            "database_migrator_user": "test-admin",
            "database_migrator_password": type(probe_settings.database_password)(password),
        }
        yield probe_settings.model_copy(update=update)
        cursor.execute(f"DROP DATABASE `{schema}`")


async def current(settings: CommonSettings, revisions: Path) -> bool:
    database = Database(settings)
    try:
        return await schema_is_current(database, revisions)
    finally:
        await database.close()


async def test_a_schema_grows_to_the_newest_revision(
    empty_schema: CommonSettings, revisions: Path
) -> None:
    assert not await current(empty_schema, revisions)
    migrate(empty_schema, revisions)
    assert await current(empty_schema, revisions)
    migrate(empty_schema, revisions)
    write(revisions, "0003", "0002")
    assert not await current(empty_schema, revisions)
    migrate(empty_schema, revisions)
    assert await current(empty_schema, revisions)


async def test_a_newer_schema_is_current_for_older_code(
    empty_schema: CommonSettings, revisions: Path
) -> None:
    write(revisions, "0003", "0002")
    migrate(empty_schema, revisions)
    (revisions / "versions" / "0003.py").unlink()
    assert await current(empty_schema, revisions)


async def test_two_at_once_do_it_once(empty_schema: CommonSettings, revisions: Path) -> None:
    for number in range(3, 9):
        write(revisions, f"{number:04}", f"{number - 1:04}")
    failures: list[BaseException] = []

    def run() -> None:
        try:
            migrate(empty_schema, revisions)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert await current(empty_schema, revisions)


def test_what_is_missing_is_said(probe_settings: CommonSettings, revisions: Path) -> None:
    with pytest.raises(MigrationError, match="DATABASE_MIGRATOR_USER"):
        migrate(probe_settings, revisions)
    update = {
        "database_migrator_user": "nobody",
        "database_migrator_password": probe_settings.database_password,
    }
    stranger = probe_settings.model_copy(update=update)
    with pytest.raises(MigrationError, match=r"no package no_such_package\.migrations"):
        migrate(stranger, "no_such_package.migrations")
    with pytest.raises(MigrationError, match="Access denied"):
        migrate(stranger, revisions)
