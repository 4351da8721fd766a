"""AsyncAPI 3 for one service: what it sends and what it hears, from the event classes."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from common.events import REGISTRY, Event, PaymentRecord

_SCHEMAS = "#/components/schemas/{model}"
_CLOUD_EVENTS = ("id", "source", "specversion", "subject", "time", "type")
STREAM_TOPICS: Mapping[str, tuple[str, type[BaseModel]]] = {
    "payment": ("stagedoor.payments.v1", PaymentRecord)
}
"""What a service also appends to the stream: topic and record."""


def _headers() -> dict[str, Any]:
    names = {f"cloudEvents:{name}": {"type": "string"} for name in _CLOUD_EVENTS}
    return {
        "type": "object",
        "required": sorted(names),
        "properties": names | {"traceparent": {"type": "string"}},
    }


class _Document:
    def __init__(self, service: str) -> None:
        self._service = service
        self._channels: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}
        self._messages: dict[str, Any] = {}
        self._schemas: dict[str, Any] = {}

    def add(self, action: str, address: str, type_: str, model: type[BaseModel]) -> None:
        """One operation: ``action`` is ``send`` or ``receive``."""
        schema = model.model_json_schema(ref_template=_SCHEMAS, mode="serialization")
        self._schemas |= schema.pop("$defs", {})
        self._schemas[model.__name__] = schema
        self._messages[type_] = {
            "name": type_,
            "title": model.__name__,
            "summary": (model.__doc__ or model.__name__).split("\n", 1)[0],
            "contentType": "application/json",
            "headers": {"$ref": "#/components/schemas/CloudEventsHeaders"},
            "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        }
        channel = self._channels.setdefault(
            address.replace(".", "_"), {"address": address, "messages": {}}
        )
        channel["messages"][type_] = {"$ref": f"#/components/messages/{type_}"}
        place = f"#/channels/{address.replace('.', '_')}"
        self._operations[f"{action}_{type_}".replace(".", "_")] = {
            "action": action,
            "channel": {"$ref": place},
            "messages": [{"$ref": f"{place}/messages/{type_}"}],
        }

    def finish(self) -> dict[str, Any]:
        """The document as a whole."""
        self._schemas["CloudEventsHeaders"] = _headers()
        return {
            "asyncapi": "3.0.0",
            "info": {"title": f"Stagedoor {self._service}-service events", "version": "1.0.0"},
            "defaultContentType": "application/json",
            "channels": self._channels,
            "operations": self._operations,
            "components": {"messages": self._messages, "schemas": self._schemas},
        }


def describe(service: str, heard: Iterable[type[Event]]) -> dict[str, Any]:
    """The AsyncAPI document of a service.

    Args:
        service: what it sends are the events of its exchanges (``<service>.events``, and its
            lanes), and its topic of the stream.
        heard: the events it subscribes to.
    """
    document = _Document(service)
    for type_, event in sorted(REGISTRY.items()):
        if event.exchange.startswith(f"{service}."):
            document.add("send", event.exchange, type_, event)
    if service in STREAM_TOPICS:
        topic, record = STREAM_TOPICS[service]
        document.add("send", topic, topic, record)
    for event in sorted(set(heard), key=lambda one: one.type):
        document.add("receive", event.exchange, event.type, event)
    return document.finish()
