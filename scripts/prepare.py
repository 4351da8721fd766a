"""Make this machine ready, then run a command: ``python3 scripts/prepare.py -- COMMAND…``.

Only the standard library of Python 3.11 or newer is needed. What is missing is installed: the
distribution's servers (as root; no daemon is started, no package removed) and ``.venv`` with the
members of this repository. What is there already costs a few milliseconds. Without root, and
with servers missing, the same happens in a container of Debian, if Docker works; else one line
says what is missing and the exit code is 2.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements" / "dev.txt"
MEMBERS = (
    "libs/common",
    "libs/testkit",
    "services/queue-service",
    "services/concert-service",
    "services/reservation-service",
    "services/payment-service",
    "audit",
    "external/identity-provider",
    "external/data-platform",
    "deploy/local",
)
OLDEST_PYTHON = (3, 11)
CONTAINER_IMAGE = "debian:12"
POLICY = Path("/usr/sbin/policy-rc.d")
# A user's PATH often lacks these; dpkg insists on them, and the servers live there.
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")

DEBIAN_PACKAGES: dict[str, tuple[str, ...]] = {
    # program: packages that bring it
    "mariadbd": ("mariadb-server-core", "mariadb-client-core"),
    "mariadb-install-db": ("mariadb-server-core",),
    "my_print_defaults": ("mariadb-client-core",),
    "redis-server": ("redis-server",),
    "rabbitmq-server": ("rabbitmq-server",),
    "nginx": ("nginx",),
}
SERVICES_OF_PACKAGES = ("redis-server", "rabbitmq-server", "nginx", "epmd")


class NotPreparedError(Exception):
    """This machine cannot be made ready; the text is one line for a person."""


def main(arguments: Sequence[str]) -> int:
    """Prepare, then become the command."""
    parser = argparse.ArgumentParser(prog="prepare.py", description=__doc__)
    parser.add_argument("--packages-only", action="store_true", help="no .venv, no command")
    parser.add_argument("command", nargs="*")
    chosen = parser.parse_args(arguments)
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN))
    os.chdir(ROOT)
    try:
        if sys.version_info < OLDEST_PYTHON:
            found = ".".join(map(str, sys.version_info[:2]))
            raise NotPreparedError(f"Python 3.11 or newer is needed; this is {found}")
        missing = missing_packages()
        if missing and os.geteuid() != 0:
            return in_container(chosen.command, missing)
        with one_at_a_time():
            if missing:
                install_packages(missing)
            if not chosen.packages_only:
                prepare_venv()
    except NotPreparedError as reason:
        say(f"✗ {reason}")
        return 2
    if chosen.command:
        os.execvp(chosen.command[0], chosen.command)
    return 0


def say(line: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two commands started together must not both install."""
    folder = ROOT / ".stack"
    folder.mkdir(exist_ok=True)
    with (folder / "prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# The distribution's packages


def missing_packages() -> list[str]:
    """Packages whose programs are not there."""
    missing = {
        package
        for program, packages in DEBIAN_PACKAGES.items()
        if shutil.which(program) is None
        for package in packages
    }
    if not (VENV / "bin" / "python").exists() and not can_make_venv():
        missing.add("python3-venv")
    return sorted(missing)


def can_make_venv() -> bool:
    """Debian splits `ensurepip` off; `venv` alone cannot bring pip."""
    try:
        import ensurepip  # noqa: PLC0415 - whether it can be imported is the question
    except ImportError:
        return False
    return bool(ensurepip.version())


def install_packages(packages: list[str]) -> None:
    """Install without starting a daemon, now or at the next boot, and without removing anything."""
    if shutil.which("apt-get") is None:
        raise NotPreparedError(
            f"missing, and there is no apt-get to install them: {' '.join(packages)}"
        )
    say(f"Installing from the distribution: {' '.join(packages)}")
    new_services = [name for name in SERVICES_OF_PACKAGES if not has_service(name)]
    log = ROOT / ".stack" / "apt.log"
    with no_daemon_starts(), log.open("w") as output:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}

        def apt(*arguments: str) -> None:
            command = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", *arguments]
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if done.returncode != 0:
                output.flush()
                errors = [ln for ln in log.read_text().splitlines() if ln.startswith("E: ")]
                why = (errors or ["see the log"])[0].removeprefix("E: ")
                raise NotPreparedError(f"apt-get {arguments[0]} failed: {why} ({log})")

        apt("update")
        apt("install", "--no-remove", "--no-install-recommends", *packages)
    for name in new_services:
        keep_off(name)


def has_service(name: str) -> bool:
    """Whether the system knew this service before."""
    units = Path("/lib/systemd/system")
    return Path(f"/etc/init.d/{name}").exists() or (units / f"{name}.service").exists()


def keep_off(name: str) -> None:
    """A service that came with our packages must not start at the next boot either."""
    for command in (
        ["update-rc.d", name, "disable"],
        ["deb-systemd-helper", "disable", f"{name}.service"],
        ["deb-systemd-helper", "disable", f"{name}.socket"],
    ):
        if shutil.which(command[0]):
            # Each part exists on some distributions only; a refusal means there is none.
            subprocess.run(command, capture_output=True, check=False)


@contextmanager
def no_daemon_starts() -> Iterator[None]:
    """A policy that denies every start, in place of the machine's own for as long as it takes."""
    saved = POLICY.with_name(POLICY.name + ".before-stagedoor")
    if not saved.exists() and (POLICY.exists() or POLICY.is_symlink()):
        POLICY.rename(saved)
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)
        if saved.exists() or saved.is_symlink():
            saved.rename(POLICY)


# The virtual environment


def prepare_venv() -> None:
    """``.venv`` with exactly the pinned packages, and the members in place."""
    members = [member for member in MEMBERS if (ROOT / member / "pyproject.toml").exists()]
    python = f"{sys.executable} {sysconfig.get_python_version()}\n".encode()
    packages = hashlib.sha256(python + REQUIREMENTS.read_bytes()).hexdigest()
    projects = [(ROOT / member / "pyproject.toml").read_bytes() for member in members]
    installed = hashlib.sha256(
        packages.encode() + str(ROOT).encode() + b"".join(projects)
    ).hexdigest()
    if not stamped("packages", packages):
        say("Installing Python packages into .venv (about a minute the first time)")
        if not works(VENV / "bin" / "python"):
            venv.create(VENV, clear=True, with_pip=True)
        pip("install", "--require-hashes", "--requirement", str(REQUIREMENTS))
        stamp("packages", packages)
    if not stamped("members", installed):
        editable = [part for member in members for part in ("--editable", str(ROOT / member))]
        pip("install", "--no-deps", "--no-build-isolation", *editable)
        stamp("members", installed)


def works(python: Path) -> bool:
    """Whether the environment's interpreter runs and has pip (a moved clone's does not)."""
    if not python.exists():
        return False
    code = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def pip(*arguments: str) -> None:
    """Run the environment's pip; only its errors are shown."""
    command = [
        str(VENV / "bin" / "python"),
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        *arguments,
    ]
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        log = ROOT / ".stack" / "pip.log"
        log.write_text(done.stdout + done.stderr)
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = (errors or ["see the log"])[-1].removeprefix("ERROR: ")
        raise NotPreparedError(f"pip failed: {why} ({log})")


def stamped(name: str, value: str) -> bool:
    """Whether this was done already."""
    file = VENV / f".stagedoor-{name}"
    return works_fast() and file.exists() and file.read_text() == value


def works_fast() -> bool:
    """The interpreter's link still leads somewhere."""
    return (VENV / "bin" / "python").exists()


def stamp(name: str, value: str) -> None:
    """Remember that this is done."""
    (VENV / f".stagedoor-{name}").write_text(value)


# Without root: a container


def in_container(command: list[str], missing: list[str]) -> int:
    """Run the command in a container that stays, so that a stack in it stays up too.

    Packages are installed as the container's root; everything else runs as the caller, so that
    ``.venv`` and ``.stack`` stay the caller's.
    """
    if not docker_works():
        raise NotPreparedError(
            f"missing: {' '.join(missing)}. Install them, or run this as root, or start Docker"
        )
    if not command:
        return 0
    digest = hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    name = f"stagedoor-{digest}"
    if not docker_quiet("inspect", name):
        say(f"No root here: working in the container {name} ({CONTAINER_IMAGE})")
        docker(
            "run", "--detach", "--init", "--name", name, "--network", "host",
            "--volume", f"{ROOT}:{ROOT}", "--workdir", str(ROOT),
            CONTAINER_IMAGE, "sleep", "infinity",
        )  # fmt: skip
    docker("start", name)
    ids = f"{os.getuid()}:{os.getgid()}"
    setup = (
        "command -v python3 >/dev/null || { apt-get -q update && apt-get -q -y install "
        "--no-install-recommends python3 make; } >/dev/null;"
        f" getent group {os.getgid()} >/dev/null || groupadd -g {os.getgid()} stagedoor;"
        f" getent passwd {os.getuid()} >/dev/null"
        f" || useradd -m -u {os.getuid()} -g {os.getgid()} stagedoor;"
    )
    docker("exec", "--user", "0", name, "sh", "-ec", setup)
    script = str(ROOT / "scripts" / "prepare.py")
    docker("exec", "--user", "0", name, "python3", script, "--packages-only")
    inner = ["python3", script, "--", *command]
    terminal = ["--tty"] if sys.stdout.isatty() else []
    done = subprocess.run(
        ["docker", "exec", "--interactive", *terminal, "--user", ids, name, *inner],
        check=False,
    )
    return done.returncode


def docker_works() -> bool:
    """Whether there is a daemon that this user may talk to."""
    return shutil.which("docker") is not None and docker_quiet("info")


def docker_quiet(*arguments: str) -> bool:
    """Run docker for its exit code."""
    done = subprocess.run(["docker", *arguments], capture_output=True, check=False)
    return done.returncode == 0


def docker(*arguments: str) -> None:
    """Run docker and insist that it works."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NotPreparedError(f"docker {arguments[0]} failed: {last}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
