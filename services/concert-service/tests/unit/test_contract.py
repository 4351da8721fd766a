"""OpenAPI and AsyncAPI: complete, and true to what the service does."""

from pathlib import Path

import pytest
from fastapi import FastAPI

from common.events import InventoryChanged, PerformanceSaleChanged, PerformanceScheduled
from concert_service.app import create_app
from concert_service.settings import ConcertSettings
from testkit.openapi import assert_complete

OPERATIONS = {
    ("get", "/api/v1/concerts"): {200, 422},
    ("get", "/api/v1/concerts/{concert_id}"): {200, 404},
    ("get", "/api/v1/concerts/{concert_id}/performances"): {200, 404, 422},
    ("get", "/api/v1/performances/{performance_id}"): {200, 404},
    ("get", "/api/v1/performances/{performance_id}/seats"): {200, 304, 404},
    ("get", "/api/v1/performances/{performance_id}/availability"): {200, 404, 422},
    ("post", "/api/v1/admin/concerts"): {201, 401, 403, 413, 415, 422},
    ("put", "/api/v1/admin/performances/{performance_id}"): {200, 401, 403, 404, 409, 422},
    ("get", "/api/v1/admin/dashboard"): {200, 401, 403, 422},
}


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """The application; nothing is connected before its lifespan."""
    settings = ConcertSettings(
        database_primary_host="127.0.0.1",
        database_replica_host="127.0.0.1",
        database_password="x",
        redis_url="redis://127.0.0.1:1",
        broker_url="amqp://127.0.0.1:1/x",
        broker_password="x",
        identity_issuer="https://identity.test",
        identity_jwks_url=(tmp_path / "jwks.json").as_uri(),
        pass_public_keys_dir=tmp_path,
    )
    return create_app(settings)


def test_openapi_is_complete(app: FastAPI) -> None:
    assert_complete(app)


def test_openapi_names_every_route_and_status(app: FastAPI) -> None:
    found = {
        (method, path): {int(status) for status in operation["responses"]}
        for path, item in app.openapi()["paths"].items()
        for method, operation in item.items()
        if not path.startswith("/docs")
    }
    assert found.keys() == OPERATIONS.keys()
    for operation, statuses in OPERATIONS.items():
        assert statuses <= found[operation], operation


def test_asyncapi_names_what_is_sent_and_heard(app: FastAPI) -> None:
    document = app.state.platform.asyncapi()
    operations = {
        (operation["action"], message["$ref"].rsplit("/", 1)[1])
        for operation in document["operations"].values()
        for message in operation["messages"]
    }
    assert operations == {
        ("send", PerformanceScheduled.type),
        ("send", PerformanceSaleChanged.type),
        ("receive", InventoryChanged.type),
    }
