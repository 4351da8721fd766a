"""The whole of Stagedoor on one machine: servers, services, fakes and the gateway.

A stack is named; its data, logs, secrets and configuration live in ``.stack/<name>/`` of the
repository, its processes belong to one supervisord, its ports to one block chosen at the first
start. Stacks of one or of two clones run side by side.

    stack = Stack("test")
    stack.up(infrastructure_only=True)
    stack.ports.redis, stack.credentials.redis["queue"]
"""

from local_stack.credentials import Credentials
from local_stack.errors import StackError
from local_stack.ports import Ports
from local_stack.stack import Stack
from local_stack.supervisor import Program

__all__ = ["Credentials", "Ports", "Program", "Stack", "StackError"]
