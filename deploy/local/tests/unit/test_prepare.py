"""``scripts/prepare.py``: what it installs, what it leaves alone, what it says."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from local_stack.layout import repository


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, working in a folder of the test's own."""
    spec = importlib.util.spec_from_file_location("prepare", repository() / "scripts/prepare.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/dev.txt").write_text("rich==15.0.0\n")
    (tmp_path / "libs/common").mkdir(parents=True)
    (tmp_path / "libs/common/pyproject.toml").write_text("[project]\n")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "REQUIREMENTS", tmp_path / "requirements/dev.txt")
    monkeypatch.setattr(module, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(module, "works", lambda _: True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return module


@pytest.fixture
def pip_calls(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(prepare, "pip", lambda *arguments: calls.append(arguments))
    return calls


def test_packages_are_checked_by_hash_and_members_are_editable(
    prepare: ModuleType, pip_calls: list[tuple[str, ...]]
) -> None:
    prepare.prepare_venv()
    packages, members = pip_calls
    assert "--require-hashes" in packages
    assert {"--no-deps", "--no-build-isolation", "--editable"} <= set(members)


def test_nothing_is_installed_twice(prepare: ModuleType, pip_calls: list[tuple[str, ...]]) -> None:
    prepare.prepare_venv()
    pip_calls.clear()
    prepare.prepare_venv()
    assert pip_calls == []


@pytest.mark.parametrize(
    ("change", "calls"),
    [
        (lambda root: (root / "requirements/dev.txt").write_text("rich==16\n"), 2),
        (lambda root: (root / "libs/common/pyproject.toml").write_text("[x]\n"), 1),
        (lambda root: (root / ".venv/bin/python").unlink(), 2),
    ],
    ids=["requirements", "a member", "a broken environment"],
)
def test_a_change_is_installed(
    prepare: ModuleType,
    pip_calls: list[tuple[str, ...]],
    tmp_path: Path,
    change: Callable[[Path], object],
    calls: int,
) -> None:
    prepare.prepare_venv()
    pip_calls.clear()
    change(tmp_path)
    prepare.prepare_venv()
    assert len(pip_calls) == calls


def test_daemons_are_denied_while_packages_are_installed(prepare: ModuleType) -> None:
    with prepare.no_daemon_starts():
        assert "exit 101" in prepare.POLICY.read_text()
        assert prepare.POLICY.stat().st_mode & 0o111
    assert not prepare.POLICY.exists()


def test_a_policy_that_was_there_comes_back_even_after_a_failure(prepare: ModuleType) -> None:
    prepare.POLICY.write_text("#!/bin/sh\nexit 0\n")

    def fail() -> None:
        with prepare.no_daemon_starts():
            assert "exit 101" in prepare.POLICY.read_text()
            raise prepare.NotPreparedError("apt-get failed")

    with pytest.raises(prepare.NotPreparedError):
        fail()
    assert prepare.POLICY.read_text() == "#!/bin/sh\nexit 0\n"


def test_a_policy_saved_by_a_run_that_was_killed_is_not_lost(prepare: ModuleType) -> None:
    prepare.POLICY.with_name("policy-rc.d.before-stagedoor").write_text("the machine's own")
    prepare.POLICY.write_text("exit 101")
    with prepare.no_daemon_starts():
        pass
    assert prepare.POLICY.read_text() == "the machine's own"


def test_without_root_and_docker_one_line_says_what_is_missing(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(prepare, "missing_packages", lambda: ["nginx", "redis-server"])
    monkeypatch.setattr(prepare, "docker_works", lambda: False)
    assert prepare.main(["--", "true"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nginx redis-server" in line


def test_without_root_docker_runs_the_command_as_the_caller(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "docker.log"
    stand_in = tmp_path / "bin/docker"
    stand_in.parent.mkdir()
    # There is no container yet, and the command inside ends with 7.
    stand_in.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\n'
        'case "$1" in inspect) exit 1 ;; esac\n'
        'case "$*" in *"-- make-it-so"*) exit 7 ;; esac\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stand_in.parent}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.getuid", lambda: 1234)
    monkeypatch.setattr("os.getgid", lambda: 567)
    monkeypatch.setattr(prepare, "missing_packages", lambda: ["nginx"])
    assert prepare.main(["--", "make-it-so", "FANS=3"]) == 7
    ran = log.read_text().splitlines()
    (start,) = [line for line in ran if line.startswith("run ")]
    assert f"--volume {tmp_path}:{tmp_path}" in start
    assert "--packages-only" in ran[-2]
    assert "--user 0 " in ran[-2]
    assert "--user 1234:567 " in ran[-1]
    assert ran[-1].endswith("-- make-it-so FANS=3")


def test_an_old_python_is_named(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "OLDEST_PYTHON", (99, 0))
    assert prepare.main(["--", "true"]) == 2
    assert "is needed; this is 3." in capsys.readouterr().err


def test_every_member_of_the_repository_is_installed(prepare: ModuleType) -> None:
    root = repository()
    found = {
        str(file.parent.relative_to(root))
        for pattern in ("*/pyproject.toml", "*/*/pyproject.toml")
        for file in root.glob(pattern)
    }
    assert set(prepare.MEMBERS) == found


def test_the_list_of_servers_is_complete(prepare: ModuleType) -> None:
    packages = {package for names in prepare.DEBIAN_PACKAGES.values() for package in names}
    assert packages == {
        "mariadb-server-core",
        "mariadb-client-core",
        "redis-server",
        "rabbitmq-server",
        "nginx",
    }
