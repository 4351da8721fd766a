"""The servers' programs: of this system, or of another root; what to say when one is missing."""

import os
import shutil
from pathlib import Path

from local_stack.errors import StackError
from local_stack.layout import Layout

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_IN_ROOT = Path(__file__).with_name("in_root.sh")


def program(name: str) -> str:
    """Full path of a server's program; also looks where a user's PATH often does not."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))
    found = shutil.which(name, path=path)
    if found is None:
        raise StackError(f"{name} is not installed; `make setup` installs it")
    return found


def command(layout: Layout, *program_and_arguments: str) -> tuple[str, ...]:
    """The command that runs a program where the stack's servers come from.

    Another root is entered in a mount namespace of its own: its mounts end with the process, and
    the process is the server itself, so that signals reach it.

    Args:
        layout: the stack's.
        program_and_arguments: the program by name, or by its path inside the root.
    """
    name, *arguments = program_and_arguments
    if layout.servers_root is None:
        return (program(name), *arguments)
    inside = layout.servers_root
    folders = [""] if name.startswith("/") else ["/usr/sbin/", "/usr/bin/"]
    # Not `exists`: an absolute link leads out of the root.
    found = [folder + name for folder in folders if os.path.lexists(f"{inside}{folder}{name}")]
    if not found:
        raise StackError(f"{name} is not installed in {inside}; `make compat` does that")
    own_mounts = (program("unshare"), "--mount", "--propagation", "private")
    enter = ("sh", str(_IN_ROOT), str(inside), str(layout.directory), str(layout.run))
    return (*own_mounts, *enter, found[0], *arguments)


def recall_root(layout: Layout) -> Path | None:
    """Where an earlier start took the servers from; None: this system, or never started."""
    file = _root_file(layout)
    return Path(file.read_text()) if file.exists() else None


def keep_root(layout: Layout) -> None:
    """Remember where the stack's servers come from; its data are of their make.

    Raises:
        StackError: it has data of servers from elsewhere.
    """
    known = recall_root(layout)
    if known != layout.servers_root and any(layout.data.iterdir()):
        raise StackError(
            f"stack {layout.name!r} has data of servers from {known or 'this system'};"
            " remove them first (down --remove-data)"
        )
    if layout.servers_root:
        _root_file(layout).write_text(str(layout.servers_root))


def _root_file(layout: Layout) -> Path:
    return layout.directory / "servers-root"
