"""W3C trace context: one trace from the fan's request to the last consumer.

The current trace lives in OpenTelemetry's context (a contextvar), so an SDK that a deployment
installs sees the same spans. Without an SDK nothing is recorded, but the ids still travel:
request → outbox row → message → consumer → Kafka record, and into every log line.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACER_NAME = "stagedoor"


def current_traceparent() -> str | None:
    """The ``traceparent`` to send along, or None outside any trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


def current_trace_id() -> str | None:
    """The trace id (32 hex digits) for log lines, or None outside any trace."""
    span = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else None


@contextmanager
def continued(
    traceparent: str | None, name: str = "work", kind: SpanKind = SpanKind.INTERNAL
) -> Iterator[None]:
    """Run the block inside the given trace, or inside a new one when there is none.

    A malformed ``traceparent`` starts a new trace: the header comes from outside.
    """
    parent = _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else None
    parent = trace.set_span_in_context(_step(parent), context.Context())
    with trace.get_tracer(_TRACER_NAME).start_as_current_span(name, parent, kind=kind):
        yield


def _step(parent: context.Context | None) -> NonRecordingSpan:
    """The remote span itself, or the root of a new trace."""
    if parent is not None:
        remote = trace.get_current_span(parent).get_span_context()
        if remote.is_valid:
            return NonRecordingSpan(remote)
    return NonRecordingSpan(
        SpanContext(
            trace_id=secrets.randbits(128) or 1,
            span_id=secrets.randbits(64) or 1,
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.SAMPLED),
        )
    )
