"""What `make compat` has run, as a table: ``python -m local_stack.compat_report``."""

import argparse
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from local_stack import mariadb, rabbitmq
from local_stack.engines import engine_of
from local_stack.stack import Stack

NOT_RUN = (
    (
        "deploy/local: test_lifecycle",
        "asks for MariaDB's own variables; kills and restarts servers",
    ),
    ("deploy/local: test_gateway, test_kafka", "neither SQL nor RabbitMQ"),
    ("tests/e2e", "a whole stack with two replicas of each service: on MariaDB only"),
    ("unit tests", "no server"),
)


def main(arguments: list[str] | None = None) -> int:
    """Print the report and write it to a file.

    Returns:
        0, or 1 when no test has run.
    """
    parser = argparse.ArgumentParser(prog="python -m local_stack.compat_report")
    parser.add_argument("--stack", required=True, help="the stack the tests ran on; it must be up")
    parser.add_argument("--results", type=Path, required=True, help="pytest's JUnit file")
    parser.add_argument("--report", type=Path, required=True, help="the file to write")
    chosen = parser.parse_args(arguments)
    counts, skipped = read(chosen.results)
    text = render(versions(Stack(chosen.stack)), counts, skipped)
    chosen.report.write_text(text)
    sys.stdout.write(text)
    return 0 if counts else 1


def versions(stack: Stack) -> dict[str, str]:
    """What the stack's servers say they are."""
    found = {}
    for which in (mariadb.PRIMARY, mariadb.REPLICA):
        with mariadb.root(stack.layout, which) as cursor:
            cursor.execute("SELECT @@version AS version, @@version_comment AS comment")
            row = cursor.fetchone() or {}
            make = f"{engine_of(stack.layout).product} {row['version']} {row['comment']}"
            found[f"SQL {which.removeprefix('mariadb-')}"] = make
    with mariadb.root(stack.layout, mariadb.REPLICA) as cursor:
        state = mariadb.replica_state(stack.layout, cursor)
    follows = state is not None and state.by_gtid and state.receives and state.applies
    found["Replication"] = "by GTID, running" if follows else "NOT RUNNING"
    with rabbitmq.management(stack.ports, stack.credentials) as client:
        overview = client.get("/overview").raise_for_status().json()
    found["RabbitMQ"] = f"{overview['rabbitmq_version']} (Erlang {overview['erlang_version']})"
    return found


def read(results: Path) -> tuple[dict[str, Counter[str]], list[tuple[str, str]]]:
    """Outcomes by member and module, and skipped tests with their reasons."""
    counts: dict[str, Counter[str]] = {}
    skipped = []
    # The file is pytest's own.
    for case in ET.parse(results).getroot().iter("testcase"):  # noqa: S314
        outcome = _outcome(case)
        counts.setdefault(_group(case.get("classname", "")), Counter())[outcome] += 1
        if outcome == "skipped":
            reason = case.find("skipped")
            said = "" if reason is None else reason.get("message", "")
            skipped.append((case.get("name", ""), said))
    return counts, skipped


def render(
    servers: dict[str, str], counts: dict[str, Counter[str]], skipped: list[tuple[str, str]]
) -> str:
    """The report in Markdown."""
    total = sum(counts.values(), Counter[str]())
    lines = ["# Compatibility run", "", "| server | version |", "| --- | --- |"]
    lines += [f"| {name} | {version} |" for name, version in servers.items()]
    lines += ["", "| tests of | passed | failed | skipped |", "| --- | ---: | ---: | ---: |"]
    for name, count in [*sorted(counts.items()), ("**all**", total)]:
        lines.append(f"| {name} | {count['passed']} | {count['failed']} | {count['skipped']} |")
    lines += ["", "| not run here | why |", "| --- | --- |"]
    lines += [f"| {name} | {why} |" for name, why in (*skipped, *NOT_RUN)]
    return "\n".join(lines) + "\n"


def _outcome(case: ET.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "passed" if case.find("skipped") is None else "skipped"


def _group(class_name: str) -> str:
    """``libs.common.tests.integration.messaging.test_lanes.TestX`` → ``libs/common: messaging``."""
    member, _, inner = class_name.partition(".tests.integration.")
    parts = inner.split(".")
    module = parts[0].removeprefix("test_")
    name = member.replace(".", "/")
    return f"{name}: {module}" if name == "libs/common" else name


if __name__ == "__main__":
    sys.exit(main())
