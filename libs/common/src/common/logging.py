"""Structured logs: one JSON object a line, with the trace id, without secrets or people.

Secrets are masked twice: by the name of the field, and by shape (JWTs, ``Bearer …``) anywhere in
the text, because an exception's message carries what it was given.
"""

import logging
import logging.config
import re
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from common.tracing import current_trace_id

MASK = "***"
_SECRET_FIELDS = re.compile(
    r"authorization|cookie|token|queue[-_]?pass|password|passwd|secret|private[-_]?key"
    r"|idempotency[-_]?key|^user(_id)?$|^sub$|email",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)[\w.~+/=-]+"  # an Authorization header
    r"|eyJ[\w-]*\.[\w-]+(?:\.[\w-]*)?"  # a JWT, whole or cut
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # credentials in a URL
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
_DEEPEST = 6


def mask_text(text: str) -> str:
    """The text without anything that looks like a credential."""
    return _SECRET_TEXT.sub(MASK, text)


@lru_cache(maxsize=2048)
def _names_a_secret(field: str) -> bool:
    return _SECRET_FIELDS.search(field) is not None


def _masked(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        # One word without a dot, a dash or a space is no credential we know.
        return value if value.isidentifier() else mask_text(value)
    if isinstance(value, bool | int | float | None):
        return value
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {
            str(key): MASK if _names_a_secret(str(key)) else _masked(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item, depth + 1) for item in value]
    return mask_text(str(value))


def _mask(_: Any, __: str, event: EventDict) -> EventDict:
    return cast("dict[str, Any]", _masked(dict(event)))


def _add_trace_id(_: Any, __: str, event: EventDict) -> MutableMapping[str, Any]:
    trace_id = current_trace_id()
    if trace_id is not None:
        event["trace_id"] = trace_id
    return event


def _name_the_process(service: str, instance: str) -> Processor:
    def add(_: Any, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        event["instance"] = instance
        return event

    return add


class _Stderr(logging.Handler):
    """Writes to whatever ``sys.stderr`` is now: tests replace it between two lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - a log line must never end what it describes
            self.handleError(record)


def configure_logging(service: str, instance: str, level: str = "INFO") -> None:
    """Send every log of the process, the libraries' included, to stderr as masked JSON.

    Args:
        service: name of the service, in every line.
        instance: name of the process, in every line.
        level: the lowest level written.
    """
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace_id,
        _name_the_process(service, instance),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _mask,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = _Stderr()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Stderr)]:
        root.removeHandler(old)  # a second call replaces the first
    root.addHandler(handler)
    root.setLevel(level)
    _quieten_libraries()


def _quieten_libraries() -> None:
    for name in ("uvicorn", "uvicorn.access", "faststream"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # our own access log replaces it
    for name in ("uvicorn", "httpx", "httpcore", "aiokafka", "aiormq", "aio_pika", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger: ``log.info("seat-sold", performance_id=…)``; events are kebab-case names."""
    return cast("FilteringBoundLogger", structlog.stdlib.get_logger(name))
