"""Swagger UI and the documents it shows, from this machine alone (no CDN)."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from common.web.problems import problem_response, standard_problem

_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}


def add_docs(app: FastAPI, service: str, asyncapi: Callable[[], dict[str, Any] | None]) -> None:
    """Serve ``/docs/<service>``, its ``openapi.json``, ``asyncapi.json`` and assets.

    Only for local and Compose: production shows its surface to nobody.
    """
    base = f"/docs/{service}"

    async def page(_: Request) -> Response:
        return get_swagger_ui_html(
            openapi_url=f"{base}/openapi.json",
            title=app.title,
            swagger_js_url=f"{base}/assets/swagger-ui-bundle.js",
            swagger_css_url=f"{base}/assets/swagger-ui.css",
            swagger_favicon_url=f"{base}/assets/favicon.png",
        )

    async def openapi(_: Request) -> Response:
        return JSONResponse(app.openapi())

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _ASSETS:
            return problem_response(standard_problem(404))
        content = files("fastapi_offline").joinpath("static", name).read_bytes()
        return Response(
            content, media_type=_ASSETS[name], headers={"Cache-Control": "public, max-age=86400"}
        )

    app.add_route(base, page, include_in_schema=False)
    app.add_route(f"{base}/openapi.json", openapi, include_in_schema=False)
    app.add_route(f"{base}/assets/{{name}}", asset, include_in_schema=False)

    async def events(_: Request) -> Response:
        document = asyncapi()
        return (
            problem_response(standard_problem(404)) if document is None else JSONResponse(document)
        )

    app.add_route(f"{base}/asyncapi.json", events, include_in_schema=False)
