"""What is rendered: settings, accounts, definitions, keys."""

import configparser
import json
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from local_stack import credentials, gateway, mariadb, rabbitmq, redis_server, services, supervisor
from local_stack.errors import StackError
from local_stack.layout import SERVICES, Layout, repository
from local_stack.ports import Ports
from local_stack.supervisor import ProgramSpec

PORTS = Ports(base=20_000, gateway=8080)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(name="unit", root=tmp_path)
    made.create()
    return made


@pytest.mark.parametrize("name", ["", "Demo", "../x", "a b", "x" * 32, "-x", "a/b"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StackError):
        Layout(name=name, root=tmp_path)


def test_the_folder_of_sockets_leaves_room_for_their_names(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-long-folder-name"] * 10)
    assert len(str(Layout(name="x" * 31, root=deep).run / "mariadb-primary.sock")) < 108


def test_passwords_are_made_once_and_private(layout: Layout) -> None:
    first = credentials.load(layout.secrets)
    assert credentials.load(layout.secrets) == first
    assert (layout.secrets / "credentials.json").stat().st_mode & 0o777 == 0o600
    everything = [*first.database.values(), *first.redis.values(), first.audit, first.test_admin]
    assert len(set(everything)) == len(everything)


def test_a_password_that_a_later_version_adds_keeps_the_others(layout: Layout) -> None:
    first = credentials.load(layout.secrets)
    file = layout.secrets / "credentials.json"
    stored = json.loads(file.read_text())
    del stored["audit"]
    file.write_text(json.dumps(stored))
    second = credentials.load(layout.secrets)
    assert second.redis == first.redis
    assert second.audit != first.audit


def test_the_pass_keys_belong_together(layout: Layout) -> None:
    keys = credentials.KeyFiles(layout.secrets)
    keys.create()
    private = load_pem_private_key(keys.pass_signing_key.read_bytes(), None)
    public_file = keys.pass_public_keys / keys.pass_signing_key.name
    public = load_pem_public_key(public_file.read_bytes())
    assert private.public_key() == public
    assert keys.pass_signing_key.stat().st_mode & 0o777 == 0o600
    before = keys.pass_signing_key.read_bytes()
    keys.create()
    assert keys.pass_signing_key.read_bytes() == before


def test_only_the_queue_service_is_told_where_signing_keys_are(layout: Layout) -> None:
    for service in SERVICES:
        told = services.environment(layout, PORTS, service, 1)
        assert ("PASS_SIGNING_KEY_FILE" in told) == (service == "queue")
        assert ("TICKET_KEY_FILE" in told) == (service == "queue")


def test_no_password_stands_in_an_environment(layout: Layout) -> None:
    passwords = credentials.load(layout.secrets)
    services.write_secrets(layout, passwords)
    for service in SERVICES:
        told = services.environment(layout, PORTS, service, 1)
        assert passwords.database[service] not in told.values()
        folder = Path(told["SECRETS_DIR"])
        assert (folder / "database_password").read_text() == passwords.database[service]
        assert (folder / "database_password").stat().st_mode & 0o777 == 0o600


def test_every_service_is_told_its_own_accounts_only(layout: Layout) -> None:
    for service in SERVICES:
        told = services.environment(layout, PORTS, service, 2)
        others = [other for other in SERVICES if other != service]
        own = {k: v for k, v in told.items() if k not in {"PASS_PUBLIC_KEYS_DIR", "SECRETS_DIR"}}
        assert not [other for other in others if other in " ".join(own.values())]
        assert told["HTTP_PORT"] == str(PORTS.replica(service, 2))


@pytest.mark.parametrize("durable", ["sync-binlog = 1", "innodb-flush-log-at-trx-commit = 1"])
def test_both_databases_are_durable(layout: Layout, durable: str) -> None:
    mariadb.render(layout, PORTS)
    for which in (mariadb.PRIMARY, mariadb.REPLICA):
        assert durable in (layout.configuration / f"{which}.cnf").read_text().splitlines()


def test_the_broker_gives_a_service_its_own_names_and_the_events_of_all(layout: Layout) -> None:
    passwords = credentials.load(layout.secrets)
    rabbitmq.render(layout, PORTS, passwords, test_accounts=False)
    file = layout.secrets / "rabbitmq-definitions.json"
    definitions = json.loads(file.read_text())
    payment = next(p for p in definitions["permissions"] if p["user"] == "payment")
    assert re.match(payment["configure"], "payment.reservation.held.v1")
    assert not re.match(payment["configure"], "queue.retry")
    assert not re.match(payment["write"], "reservation.events")
    assert re.match(payment["read"], "reservation.events")
    assert not re.match(payment["read"], "reservation.lanes")
    assert not re.match(payment["read"], "reservation.eventsx")
    assert "test-admin" not in {user["name"] for user in definitions["users"]}
    assert file.stat().st_mode & 0o777 == 0o600


def test_definitions_are_the_same_at_every_start(layout: Layout) -> None:
    # RabbitMQ would otherwise change passwords under running connections.
    passwords = credentials.load(layout.secrets)
    file = layout.secrets / "rabbitmq-definitions.json"
    rabbitmq.render(layout, PORTS, passwords, test_accounts=True)
    first = file.read_text()
    rabbitmq.render(layout, PORTS, passwords, test_accounts=True)
    assert file.read_text() == first


def test_test_accounts_exist_in_test_stacks_only(layout: Layout) -> None:
    passwords = credentials.load(layout.secrets)
    for test_accounts in (False, True):
        redis_server.render(layout, PORTS, passwords, test_accounts=test_accounts)
        acl = (layout.secrets / "redis.acl").read_text()
        assert ("user test-admin " in acl) is test_accounts
        assert ("~queue_*" in acl) is test_accounts
        assert passwords.redis["queue"] not in acl


def test_supervisord_reads_back_what_was_meant(layout: Layout) -> None:
    spec = ProgramSpec(
        name="odd",
        command=("/bin/echo", "100%", "two words"),
        environment={"URL": "http://x/?a=%20", "COMMA": "a,b"},
    )
    supervisor.render(layout, [spec])
    file = layout.configuration / "supervisord.conf"
    parsed = configparser.ConfigParser()
    parsed.read(file)
    assert parsed["program:odd"]["command"] == "/bin/echo 100% 'two words'"
    assert 'URL="http://x/?a=%20"' in parsed["program:odd"]["environment"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_value_that_would_break_out_of_its_quotes_is_refused(layout: Layout) -> None:
    with pytest.raises(StackError):
        supervisor.render(layout, [ProgramSpec("x", ("true",), {"A": 'b",EVIL="1'})])


def test_no_placeholder_is_left_in_the_gateways_files(layout: Layout) -> None:
    (layout.root / "deploy").symlink_to(repository() / "deploy")
    gateway.render(layout, PORTS, gateway.Limits())
    for file in (layout.configuration / "gateway").glob("*.conf"):
        assert "@{" not in file.read_text(), file.name


def test_a_placeholder_nobody_fills_is_an_error() -> None:
    with pytest.raises(KeyError):
        gateway.Template("listen @{unknown};").substitute({})


def test_nginx_variables_and_named_locations_are_left_alone() -> None:
    text = "location @named { set $a ${b}; } # @{here}"
    assert gateway.Template(text).substitute(here="x") == "location @named { set $a ${b}; } # x"
