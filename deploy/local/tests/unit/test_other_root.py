"""Servers of another root: how they are entered, remembered, configured and reported."""

from pathlib import Path

import pytest

from local_stack import compat_report, mariadb, servers
from local_stack.engines import MariaDb, MySql, engine_of
from local_stack.errors import StackError
from local_stack.layout import Layout
from local_stack.ports import Ports
from local_stack.stack import Stack


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "usr/sbin").mkdir(parents=True)
    (made / "usr/sbin/mysqld").touch()
    return made


def layout_of(tmp_path: Path, servers_root: Path | None) -> Layout:
    made = Layout(name="unit", root=tmp_path, servers_root=servers_root)
    made.create()
    return made


def test_a_program_is_entered_in_mounts_of_its_own(tmp_path: Path, root: Path) -> None:
    layout = layout_of(tmp_path, root)
    command = servers.command(layout, "mysqld", "--port=1")
    assert Path(command[0]).name == "unshare"
    assert command[1:4] == ("--mount", "--propagation", "private")
    assert command[-5:] == (
        str(root),
        str(layout.directory),
        str(layout.run),
        "/usr/sbin/mysqld",
        "--port=1",
    )


def test_a_program_that_the_root_lacks_is_named(tmp_path: Path, root: Path) -> None:
    layout = layout_of(tmp_path, root)
    for missing in ("epmd", "/usr/lib/rabbitmq/bin/rabbitmq-server"):
        with pytest.raises(StackError, match=f"{missing} is not installed in .*make compat"):
            servers.command(layout, missing)


def test_the_root_is_remembered(tmp_path: Path, root: Path) -> None:
    servers.keep_root(layout_of(tmp_path, root))
    assert Stack("unit", root=tmp_path).layout.servers_root == root
    assert Stack("other", root=tmp_path).layout.servers_root is None


def test_data_of_other_servers_are_refused(tmp_path: Path, root: Path) -> None:
    here = layout_of(tmp_path, None)
    servers.keep_root(here)
    mariadb.data_directory(here, mariadb.PRIMARY).mkdir()
    servers.keep_root(here)
    with pytest.raises(StackError, match="this system"):
        servers.keep_root(layout_of(tmp_path, root))


def test_each_make_gets_its_own_options(tmp_path: Path, root: Path) -> None:
    for servers_root, make, own, foreign in (
        (None, MariaDb, "gtid-strict-mode = ON", "gtid-mode = ON"),
        (root, MySql, "gtid-mode = ON", "gtid-strict-mode = ON"),
    ):
        layout = layout_of(tmp_path, servers_root)
        assert isinstance(engine_of(layout), make)
        mariadb.render(layout, Ports(base=20_000, gateway=8080))
        primary, replica = (
            (layout.configuration / f"{which}.cnf").read_text().splitlines()
            for which in (mariadb.PRIMARY, mariadb.REPLICA)
        )
        assert own in primary
        assert own in replica
        assert foreign not in primary
        assert "read-only = ON" in replica
        assert "read-only = ON" not in primary


def test_the_report_counts_every_outcome(tmp_path: Path) -> None:
    results = tmp_path / "results.xml"
    results.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="libs.common.tests.integration.test_outbox.TestA" name="a"/>'
        '<testcase classname="libs.common.tests.integration.messaging.test_b" name="b">'
        "<failure/></testcase>"
        '<testcase classname="audit.tests.integration.test_rules" name="c"><error/></testcase>'
        '<testcase classname="audit.tests.integration.test_rules" name="d">'
        '<skipped message="why not"/></testcase>'
        "</testsuite></testsuites>"
    )
    counts, skipped = compat_report.read(results)
    assert {name: dict(count) for name, count in counts.items()} == {
        "libs/common: outbox": {"passed": 1},
        "libs/common: messaging": {"failed": 1},
        "audit": {"failed": 1, "skipped": 1},
    }
    assert skipped == [("d", "why not")]
    text = compat_report.render({"RabbitMQ": "4"}, counts, skipped)
    assert "| **all** | 1 | 2 | 1 |" in text
    assert "| d | why not |" in text
