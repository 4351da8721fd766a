"""Settings for a process of its own, which a test may then freeze or kill."""

import os
from typing import Any

from pydantic import SecretStr

from common.settings import CommonSettings


def environment(settings: CommonSettings) -> dict[str, str]:
    """The environment under which a child process finds these settings.

    The instance is left out: it is unique for each process.
    """
    values = {"PATH": os.defpath, "PYTHONUNBUFFERED": "1"}
    values |= {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    for name in type(settings).model_fields:
        value: Any = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if value is not None and name != "instance":
            values[name.upper()] = str(value)
    return values
