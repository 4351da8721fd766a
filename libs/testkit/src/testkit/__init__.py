"""What the tests share: real servers of their own, settings, tokens, waiting and faults.

The fixtures are in `testkit.plugin`; everything a test imports by name is here.
"""

from testkit.applications import running
from testkit.identity import Bearer, QueuePass
from testkit.infrastructure import Infrastructure, SettingsFor
from testkit.problem import assert_problem
from testkit.processes import environment
from testkit.proxy import TcpProxy
from testkit.spy import Published, Spy, SpyMessage
from testkit.waiting import eventually

__all__ = [
    "Bearer",
    "Infrastructure",
    "Published",
    "QueuePass",
    "SettingsFor",
    "Spy",
    "SpyMessage",
    "TcpProxy",
    "assert_problem",
    "environment",
    "eventually",
    "running",
]
