"""Every error the platform gives a meaning of its own.

    StagedoorError
    ├── Problem                 an answer for the caller: RFC 9457, with a stable ``code``
    ├── DependencyUnavailable   a server we need is away: 503 over HTTP, a pause in a consumer
    │   └── OutcomeUnknown      it may have committed: look the effect up, never do it again
    ├── UniqueViolation         a unique key said no; the caller knows what the key means
    └── MessageRejected         a message that can never succeed: parked at once

``domain`` modules raise errors of their own and know none of these; a service's ``api`` maps them.
"""

from collections.abc import Mapping


class StagedoorError(Exception):
    """Root of every error below; never raised itself."""


class Problem(StagedoorError):  # noqa: N818 - an answer, named as RFC 9457 names it
    """An answer that is an error: becomes ``application/problem+json`` at the edge.

    Args:
        status: the HTTP status, 400 to 599.
        code: stable machine name in kebab case, e.g. ``seat-unavailable``; clients branch on it.
        title: one short sentence, the same for every occurrence of ``code``.
        detail: what is particular about this occurrence; never internals, never personal data.
        retry_after_seconds: also sent as ``Retry-After``.
        headers: further response headers.
        extension_members: further JSON members beside the RFC's, e.g. ``unavailable_seats``.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str | None = None,
        *,
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
        **extension_members: object,
    ) -> None:
        super().__init__(f"{status} {code}: {detail or title}")
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.headers = dict(headers or {})
        self.extension_members = extension_members


class DependencyUnavailable(StagedoorError):  # noqa: N818 - names the condition
    """A server this process needs did not answer in time; nothing is known to have happened.

    Over HTTP it is a 503 ``dependency-unavailable`` with ``Retry-After``; a consumer pauses in
    place and rejects nothing.
    """

    def __init__(self, dependency: str, retry_after_seconds: int = 1) -> None:
        super().__init__(f"{dependency} is unavailable")
        self.dependency = dependency
        self.retry_after_seconds = retry_after_seconds


class OutcomeUnknown(DependencyUnavailable):
    """The connection was lost while committing: the effect may or may not exist.

    Look the effect up by its key; repeating the work blindly could do it twice.
    """


class UniqueViolation(StagedoorError):  # noqa: N818 - names the condition
    """An INSERT or UPDATE met an existing row; ``constraint`` names the unique key."""

    def __init__(self, constraint: str) -> None:
        super().__init__(f"unique key {constraint} violated")
        self.constraint = constraint


class MessageRejected(StagedoorError):  # noqa: N818 - names the verdict
    """A consumer's verdict that this message can never succeed; it is parked without retries."""
