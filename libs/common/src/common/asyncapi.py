"""AsyncAPI 3 for one service: what it sends and what it hears, from the event classes."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from common.broker.topology import LANES, LANES_EXCHANGE, exchange_named, lane_key
from common.envelope import AMQP_PREFIX, CONTENT_TYPE, KAFKA_PREFIX, TRACEPARENT_HEADER
from common.events import REGISTRY, Event, PaymentRecord

_SCHEMAS = "#/components/schemas/{model}"
_CLOUD_EVENTS = ("id", "source", "specversion", "subject", "time", "type")
STREAM_TOPICS: Mapping[str, tuple[str, type[BaseModel]]] = {
    "payment": ("stagedoor.payments.v1", PaymentRecord)
}
"""What a service also appends to the stream: topic and record."""


_BROKER_HEADERS = "CloudEventsHeaders"
_STREAM_HEADERS = "CloudEventsStreamHeaders"
_BINDING_VERSION = "0.3.0"


def _headers(prefix: str) -> dict[str, Any]:
    names = {f"{prefix}{name}": {"type": "string"} for name in _CLOUD_EVENTS}
    return {
        "type": "object",
        "required": sorted(names),
        "properties": names | {TRACEPARENT_HEADER: {"type": "string"}},
    }


def _exchange_binding(name: str) -> dict[str, Any]:
    kind = exchange_named(name).kind
    exchange = {"name": name, "type": kind, "durable": True, "autoDelete": False}
    return {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": _BINDING_VERSION}}


class _Document:
    def __init__(self, service: str) -> None:
        self._service = service
        self._channels: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}
        self._messages: dict[str, Any] = {}
        self._schemas: dict[str, Any] = {
            _BROKER_HEADERS: _headers(AMQP_PREFIX),
            _STREAM_HEADERS: _headers(KAFKA_PREFIX),
        }

    def add_event(self, action: str, event: type[Event]) -> None:
        """One operation on an exchange: ``action`` is ``send`` or ``receive``."""
        bindings = _exchange_binding(event.exchange)
        if event.exchange == LANES_EXCHANGE:
            keys = f"{lane_key(0)} to {lane_key(LANES - 1)}, by hash of the performance"
        else:
            keys = event.type
        self._add(
            action,
            event.exchange,
            event.type,
            model=event,
            headers=_BROKER_HEADERS,
            bindings=bindings,
            routing_keys=keys,
        )

    def add_record(self, topic: str, record: type[BaseModel]) -> None:
        """The stream's records, sent to a topic of Kafka."""
        bindings = {"kafka": {"topic": topic, "bindingVersion": "0.5.0"}}
        self._add(
            "send",
            topic,
            topic,
            model=record,
            headers=_STREAM_HEADERS,
            bindings=bindings,
            routing_keys=None,
        )
        self._messages[topic]["bindings"] = {
            "kafka": {
                "key": {"type": "string", "description": "The concert's id."},
                "bindingVersion": "0.5.0",
            }
        }

    def _add(
        self,
        action: str,
        address: str,
        type_: str,
        *,
        model: type[BaseModel],
        headers: str,
        bindings: dict[str, Any],
        routing_keys: str | None,
    ) -> None:
        schema = model.model_json_schema(ref_template=_SCHEMAS, mode="serialization")
        self._schemas |= schema.pop("$defs", {})
        self._schemas[model.__name__] = schema
        message = {
            "name": type_,
            "title": model.__name__,
            "summary": (model.__doc__ or model.__name__).split("\n", 1)[0],
            "contentType": CONTENT_TYPE,
            "headers": {"$ref": f"#/components/schemas/{headers}"},
            "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        }
        if routing_keys:
            message["description"] = f"Routing key: {routing_keys}."
        self._messages[type_] = message
        key = address.replace(".", "_")
        channel = self._channels.setdefault(
            key, {"address": address, "messages": {}, "bindings": bindings}
        )
        channel["messages"][type_] = {"$ref": f"#/components/messages/{type_}"}
        self._operations[f"{action}_{type_}".replace(".", "_")] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": [{"$ref": f"#/channels/{key}/messages/{type_}"}],
        }

    def finish(self) -> dict[str, Any]:
        """The document as a whole."""
        return {
            "asyncapi": "3.0.0",
            "info": {"title": f"Stagedoor {self._service}-service events", "version": "1.0.0"},
            "defaultContentType": CONTENT_TYPE,
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
    for _, event in sorted(REGISTRY.items()):
        if event.exchange.startswith(f"{service}."):
            document.add_event("send", event)
    if service in STREAM_TOPICS:
        topic, record = STREAM_TOPICS[service]
        document.add_record(topic, record)
    for event in sorted(set(heard), key=lambda one: one.type):
        document.add_event("receive", event)
    return document.finish()
