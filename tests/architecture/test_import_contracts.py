"""Every import contract holds, and every one can fail: an offending line turns it red."""

import os
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("libs/*/src", "services/*/src", "audit/src", "external/*/src", "deploy/local/src")

OFFENCES = [
    # contract, module that offends, its offending line
    ("layers", "queue_service/store", "import queue_service.service"),
    ("layers", "payment_service/api", "import payment_service.consumers"),
    ("layers", "concert_service/domain", "import concert_service.store"),
    ("services", "payment_service/service", "import reservation_service.domain"),
    ("common", "common/outbox", "import payment_service.domain"),
    ("production", "concert_service/app", "import testkit"),
    ("domain", "reservation_service/domain", "import redis"),
    ("domain", "payment_service/domain", "import common.database"),
    ("domain", "queue_service/domain", "import time"),
    ("drivers", "queue_service/store", "import aiomysql"),
    ("drivers", "payment_service/consumers", "import faststream"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    paths = [str(path) for pattern in SOURCES for path in sorted(folder.glob(pattern))]
    return subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )


def contract_name(contract: str) -> str:
    parsed = ConfigParser()
    parsed.read(ROOT / ".importlinter")
    return parsed[f"importlinter:contract:{contract}"]["name"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The members' sources, to be spoiled."""
    folder = tmp_path_factory.mktemp("sources")
    shutil.copy(ROOT / ".importlinter", folder)
    for pattern in SOURCES:
        for path in ROOT.glob(pattern):
            shutil.copytree(
                path,
                folder / path.relative_to(ROOT),
                ignore=shutil.ignore_patterns("__pycache__"),
            )
    return folder


def test_every_contract_holds(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("contract", "module", "line"), OFFENCES)
def test_a_contract_can_fail(copy: Path, contract: str, module: str, line: str) -> None:
    found = [
        *copy.glob(f"*/*/src/{module}.py"),
        *copy.glob(f"*/*/src/{module}/__init__.py"),
    ]
    assert len(found) == 1, f"{module} is no module any more"
    (file,) = found
    text = file.read_text()
    file.write_text(f"{text}\n{line}\n")
    try:
        done = lint(copy)
    finally:
        file.write_text(text)
    assert done.returncode != 0
    assert f"{contract_name(contract)} BROKEN" in done.stdout


def test_every_contract_is_seen_to_fail() -> None:
    parsed = ConfigParser()
    parsed.read(ROOT / ".importlinter")
    prefix = "importlinter:contract:"
    contracts = {s.removeprefix(prefix) for s in parsed.sections() if s.startswith(prefix)}
    assert contracts == {contract for contract, _, _ in OFFENCES}
