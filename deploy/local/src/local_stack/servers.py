"""The distribution's servers: where their programs are, and what to say when one is missing."""

import os
import shutil

from local_stack.errors import StackError

_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def program(name: str) -> str:
    """Full path of a server's program; also looks where a user's PATH often does not."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))
    found = shutil.which(name, path=path)
    if found is None:
        raise StackError(f"{name} is not installed; `make setup` installs it")
    return found
