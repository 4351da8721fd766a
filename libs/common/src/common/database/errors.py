"""What a server's or the driver's error means to the code that sent the statement."""

import re

import pymysql.err

from common.errors import DependencyUnavailable, StagedoorError, UniqueViolation

_DUPLICATE_ENTRY = {1062, 1586}
_CHECK_FAILED = {3819, 4025}  # MySQL, MariaDB
_CONTENTION = {1205, 1213}  # lock wait timeout, deadlock
_UNAVAILABLE = {
    1021,  # disk full
    1040, 1203, 1226,  # too many connections: all, of this account, by its limits
    1053, 1077, 1079,  # shutting down
    1158, 1159, 1160, 1161,  # network error or timeout while talking
    1205, 1213,  # see _CONTENTION
    1290, 1792, 1836,  # read-only: no longer the primary
    1317,  # statement interrupted: an administrator, or a shutdown
    1927,  # MariaDB: connection was killed
    2006, 2013, 2014, 2055,  # the client lost the server
    3024, 1969,  # statement took longer than the server allows
    4031,  # MySQL: disconnected for inactivity
}  # fmt: skip

_BROKEN_CONNECTION = (
    TimeoutError,
    OSError,
    EOFError,
    pymysql.err.InterfaceError,  # already closed
    pymysql.err.InternalError,  # packets out of step
)
_SERVER_CODES = range(1000, 2000), range(3000, 10_000)
"""Codes the server sent; the driver's own stand below and between."""
_HANGS_UP = {1053, 1927, 4031}
"""The server says goodbye: its last answer on this connection."""

_KEY_NAME = re.compile(r"for key '(?:[^'.]+\.)?([^'.]+)'\Z")
_CHECK_NAME = re.compile(r"(?:CONSTRAINT `([^`]+)` failed|[Cc]heck constraint '([^']+)')")


class RetryTransaction(DependencyUnavailable):
    """The transaction lost against a concurrent one and is rolled back: do all of it again.

    `Database.run` does so; it reaches a caller only from `Database.transaction`, or when the
    attempts or the time for them are used up.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("database")
        self.add_note(reason)


class CheckViolation(StagedoorError):  # noqa: N818 - names the condition
    """A row would have broken a CHECK; ``constraint`` names it."""

    def __init__(self, constraint: str) -> None:
        super().__init__(f"check {constraint} violated")
        self.constraint = constraint


def connection_survives(error: BaseException) -> bool:
    """Whether the server answered, so that the connection still stands between two commands."""
    if not isinstance(error, pymysql.err.MySQLError | pymysql.err.Warning):
        return False
    if isinstance(error, pymysql.err.Warning):
        return True
    code = _code(error)
    return any(code in codes for codes in _SERVER_CODES) and code not in _HANGS_UP


def translate(error: BaseException) -> BaseException:
    """The project's error for one of the driver; an error in our own SQL stays as it is."""
    if isinstance(error, _BROKEN_CONNECTION):
        return DependencyUnavailable("database")
    if not isinstance(error, pymysql.err.MySQLError):
        return error
    return _by_code(_code(error), str(error.args[-1])) or error


def _by_code(code: int, text: str) -> StagedoorError | None:
    if code in _DUPLICATE_ENTRY and (found := _KEY_NAME.search(text)):
        return UniqueViolation(found.group(1))
    if code in _CHECK_FAILED and (found := _CHECK_NAME.search(text)):
        return CheckViolation(found.group(1) or found.group(2))
    if code in _CONTENTION:
        return RetryTransaction(text)
    return DependencyUnavailable("database") if code in _UNAVAILABLE else None


def _code(error: BaseException) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0
