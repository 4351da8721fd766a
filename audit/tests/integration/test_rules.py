"""Every rule, on stores that were broken in just its way: a rule that cannot fail is no rule."""

import importlib
from dataclasses import dataclass

import pytest
from pydantic import SecretStr
from store_rows import BROKEN, CONCERT, TABLES, sound_sale

from audit import ALL_RULES, Source, check, facts_of, open_snapshot
from common.ids import new_id
from common.migrations import migrate
from testkit import Infrastructure

SERVICES = ("queue", "concert", "reservation", "payment")


@dataclass
class Stores:
    """The four schemas, emptied for each test."""

    infrastructure: Infrastructure
    source: Source

    def execute(self, *statements: str) -> None:
        with self.infrastructure.root() as cursor:
            for statement in statements:
                cursor.execute(statement.format(**self.source.schemas))


def drop_checks(infrastructure: Infrastructure, schema: str) -> None:
    """What no service could write is what the rules are for."""
    with infrastructure.root() as cursor:
        cursor.execute(
            "SELECT table_name, constraint_name FROM information_schema.table_constraints"
            " WHERE constraint_schema = %s AND constraint_type = 'CHECK'"
            # MariaDB checks JSON columns by itself, under the column's name, for good.
            " AND LEFT(constraint_name, CHAR_LENGTH(table_name) + 1) = CONCAT(table_name, '_')",
            (schema,),
        )
        checks = cursor.fetchall()
        assert checks
        for table, name in checks:
            cursor.execute(f"ALTER TABLE `{schema}`.`{table}` DROP CONSTRAINT `{name}`")


@pytest.fixture(scope="module")
def migrated(infrastructure: Infrastructure) -> Source:
    schemas = {service: f"{service}_{infrastructure.slot}_audit" for service in SERVICES}
    for service, schema in schemas.items():
        with infrastructure.root() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{schema}`")
            cursor.execute(f"CREATE DATABASE `{schema}`")
        module = importlib.import_module(f"{service}_service.settings")
        (settings_class,) = (
            value
            for value in vars(module).values()
            if isinstance(value, type) and getattr(value, "service_name", None) == service
        )
        settings = infrastructure.settings_for(settings_class)
        migrator = settings.model_copy(
            update={
                "database_schema": schema,
                "database_migrator_user": "test-admin",
                "database_migrator_password": SecretStr(
                    infrastructure.stack.credentials.test_admin
                ),
            }
        )
        migrate(migrator, f"{service}_service.migrations")
        drop_checks(infrastructure, schema)
    password = SecretStr(infrastructure.stack.credentials.audit)
    return Source("127.0.0.1", infrastructure.ports.mariadb_primary, "audit", password, schemas)


@pytest.fixture
def stores(infrastructure: Infrastructure, migrated: Source) -> Stores:
    stores = Stores(infrastructure, migrated)
    stores.execute(*(f"DELETE FROM {table}" for table in TABLES))
    return stores


class TestRules:
    async def test_a_sound_sale_breaks_none(self, stores: Stores) -> None:
        stores.execute(*sound_sale())
        found = await check(stores.source, settle_seconds=0)
        assert found == {rule.name: [] for rule in ALL_RULES}

    @pytest.mark.parametrize("name", [rule.name for rule in ALL_RULES])
    async def test_each_finds_what_it_is_for(self, stores: Stores, name: str) -> None:
        stores.execute(*sound_sale(), *BROKEN[name])
        found = await check(stores.source, settle_seconds=0)
        assert found[name]

    async def test_news_on_its_way_is_not_judged(self, stores: Stores) -> None:
        stores.execute(*sound_sale(), *BROKEN["every-debit-ends"])
        assert (await check(stores.source, settle_seconds=3600))["every-debit-ends"] == []


class TestFacts:
    async def test_are_counted_from_the_rows(self, stores: Stores) -> None:
        stores.execute(*sound_sale())
        async with open_snapshot(stores.source) as snapshot:
            facts = await facts_of(snapshot, CONCERT)
        assert (facts.seats_sold, facts.double_sold, facts.holds_expired) == (1, 0, 0)
        assert (facts.payments_succeeded, facts.payments_refunded) == (1, 0)
        assert (facts.max_inside, facts.queue_order_inversions) == (1, 0)

    async def test_what_is_no_id_is_refused(self, stores: Stores) -> None:
        async with open_snapshot(stores.source) as snapshot:
            with pytest.raises(ValueError, match="no concert id"):
                await facts_of(snapshot, "' OR 1=1 --")

    async def test_an_unknown_concert_has_none(self, stores: Stores) -> None:
        async with open_snapshot(stores.source) as snapshot:
            assert (await facts_of(snapshot, new_id())).seats_sold == 0


class TestAccount:
    async def test_it_can_only_read(self, stores: Stores) -> None:
        async with open_snapshot(stores.source) as snapshot:
            with pytest.raises(Exception, match=r"denied|READ ONLY"):
                await snapshot.rows("DELETE FROM {payment}.wallets")
