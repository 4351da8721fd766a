"""``python -m local_stack.verify``: every invariant over a live stack (``make verify``)."""

import argparse
import sys
from collections.abc import Sequence

from pydantic import SecretStr

from audit import SETTLE_SECONDS, Source, judge
from local_stack.errors import StackError
from local_stack.stack import Stack


def source_of(stack: Stack) -> Source:
    """Where and as whom the audit reads this stack.

    Raises:
        StackError: the stack was never started.
    """
    return Source(
        "127.0.0.1", stack.ports.mariadb_primary, "audit", SecretStr(stack.credentials.audit)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: nothing is violated; 1: something is; 2: the stack cannot be read."""
    parser = argparse.ArgumentParser(prog="verify", description=__doc__)
    parser.add_argument("--stack", default="demo", help="name of the stack (default %(default)s)")
    parser.add_argument("--settle-seconds", type=int, default=SETTLE_SECONDS)
    parser.add_argument("--json", action="store_true", help="counts a rule, as JSON")
    options = parser.parse_args(arguments)
    try:
        source = source_of(Stack(options.stack))
    except StackError as reason:
        sys.stderr.write(f"verify: {reason}\n")
        return 2
    return judge(source, settle_seconds=options.settle_seconds, as_json=options.json)


if __name__ == "__main__":
    raise SystemExit(main())
