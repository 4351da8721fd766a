"""One FastAPI application as every service has it."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_fastapi_instrumentator.metrics import latency
from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from common.metrics import SHORT_SECONDS
from common.metrics import registry as process_registry
from common.web.docs import add_docs
from common.web.edge import Edge
from common.web.openapi import install_openapi
from common.web.problems import add_problem_handlers, problem_response, standard_problem
from common.web.requests import StrictRoute

PREFIX = "/api/v1"
LARGEST_BODY_BYTES = 64 * 1024


class Host(Protocol):
    """What the application asks of the process it runs in (`common.platform.Platform`)."""

    @property
    def service_name(self) -> str:
        """Names the documentation: ``queue``, ``concert`` and so on."""

    @property
    def documented(self) -> bool:
        """Whether ``/docs`` is served."""

    @property
    def serves_api(self) -> bool:
        """Whether this role has the service's routes; a worker has only health and metrics."""

    @property
    def is_alive(self) -> bool:
        """False when only a restart helps."""

    @property
    def is_ready(self) -> bool:
        """Started, migrated, not draining."""

    @property
    def is_open(self) -> bool:
        """Started and migrated: requests are answered, also while draining."""

    @property
    def is_draining(self) -> bool:
        """Whether the process is about to stop."""

    def state(self) -> Mapping[str, object]:
        """What dependencies find in ``app.state``."""

    def lifespan(self, app: FastAPI) -> AbstractAsyncContextManager[None]:
        """Start and stop everything the process owns."""

    def asyncapi(self) -> dict[str, Any] | None:
        """The AsyncAPI document of the service's events, if it has any."""


class ServiceApp(FastAPI):
    """A FastAPI application whose outermost layer is the `Edge`."""

    def __init__(self, host: Host, **options: Any) -> None:
        self._host = host
        super().__init__(**options)

    def build_middleware_stack(self) -> ASGIApp:
        """The usual layers, wrapped so that nothing leaves without a problem body."""
        return Edge(
            super().build_middleware_stack(),
            is_open=lambda: self._host.is_open,
            is_draining=lambda: self._host.is_draining,
        )


async def _on_unhandled(_: Request, __: Exception) -> Response:
    return problem_response(standard_problem(500))


async def _on_timeout(_: Request, __: Exception) -> Response:
    return problem_response(
        standard_problem(503, "a part did not answer in time", retry_after_seconds=1)
    )


def _add_health(app: FastAPI, host: Host, registry: CollectorRegistry) -> None:
    def verdict(good: bool) -> Response:
        return Response(
            b'{"status":"up"}' if good else b'{"status":"down"}',
            200 if good else 503,
            media_type="application/json",
        )

    async def live(_: Request) -> Response:
        return verdict(host.is_alive)

    async def ready(_: Request) -> Response:
        return verdict(host.is_ready)

    async def metrics(_: Request) -> Response:
        content = generate_latest(process_registry) + generate_latest(registry)
        return Response(content, headers={"Content-Type": "text/plain; version=0.0.4"})

    app.add_route("/health/live", live, include_in_schema=False)
    app.add_route("/health/ready", ready, include_in_schema=False)
    app.add_route("/metrics", metrics, include_in_schema=False)


def _refuse_lenient_routes(routes: Sequence[BaseRoute]) -> None:
    for route in routes:
        if not isinstance(route, StrictRoute):
            raise TypeError(f"{route} is no StrictRoute: build routers with common.web.Router")


def create_web_app(
    host: Host,
    *,
    title: str,
    description: str,
    routers: Sequence[APIRouter],
    unprefixed: Sequence[APIRouter] = (),
    state: Mapping[str, object] | None = None,
    largest_body_bytes: int = LARGEST_BODY_BYTES,
) -> FastAPI:
    """The service's application.

    Args:
        host: the process, usually a `Platform`.
        title: for the documentation.
        description: for the documentation, Markdown.
        routers: the service's routes, built with `common.web.Router`; they are mounted under
            ``/api/v1``, so their own paths start at ``/reservations``, not at ``/api/v1``.
        unprefixed: routers mounted at the root, e.g. ``/.well-known``.
        state: use cases the routes find by `from_state`.
        largest_body_bytes: limit for every route; one route raises its own by ``max_body_size=``.
    """
    app = ServiceApp(
        host,
        title=title,
        description=description,
        version="1.0.0",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=host.lifespan,
        redirect_slashes=False,
        max_body_size=largest_body_bytes,
    )
    for name, value in {**host.state(), **(state or {})}.items():
        setattr(app.state, name, value)
    registry = CollectorRegistry()
    # One histogram by route, method and status; its count is the number of requests.
    measure = latency(buckets=SHORT_SECONDS, registry=registry)
    app.add_middleware(
        PrometheusInstrumentatorMiddleware,
        registry=registry,
        should_group_status_codes=False,
        excluded_handlers=["^/health/", "^/metrics$"],
        instrumentations=[measure] if measure else [],
    )
    add_problem_handlers(app)
    app.add_exception_handler(TimeoutError, _on_timeout)
    app.add_exception_handler(Exception, _on_unhandled)
    _add_health(app, host, registry)
    if host.serves_api:
        for router in routers:
            _refuse_lenient_routes(router.routes)
            app.include_router(router, prefix=PREFIX)
        for router in unprefixed:
            _refuse_lenient_routes(router.routes)
            app.include_router(router)
    if host.documented:
        add_docs(app, host.service_name, host.asyncapi)
    install_openapi(app)
    return app
