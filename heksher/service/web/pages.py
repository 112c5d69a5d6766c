"""The OpenAPI document and the pages that show it, at the same paths as in the original service.

Knows Starlette and nothing about settings. The pages load nothing from other hosts. The files of
Swagger UI and Redoc come from the package ``fastapi-offline`` (extra: docs-ui); its code is not used.
Without it, both pages are a list of the operations.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from heksher.service.web.http import responses
from heksher.service.web.openapi import OPERATIONS, document

# The package with the files of Swagger UI and Redoc, and their names and media types.
_PACKAGE = "fastapi_offline"
_FILES: Mapping[str, str] = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
    "favicon.png": "image/png",
}

# Browsers enforce this, so a page that tries to load something from another host visibly fails.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# All links are relative, so that they work below any prefix.
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Heksher</title>
{head}</head>
<body>
<div id="page"><p>The interface of this service is described by its
<a href="openapi.json">OpenAPI document</a>.</p></div>
{body}</body>
</html>
"""
_ICON = '<link rel="icon" href="docs/files/favicon.png">\n'
_SWAGGER = _PAGE.format(
    head=f'{_ICON}<link rel="stylesheet" href="docs/files/swagger-ui.css">\n',
    body='<script src="docs/files/swagger-ui-bundle.js"></script>\n'
    '<script src="docs/files/start-swagger.js"></script>\n',
)
_REDOC = _PAGE.format(
    head=_ICON,
    body='<script src="docs/files/redoc.standalone.js"></script>\n'
    '<script src="docs/files/start-redoc.js"></script>\n',
)
_LIST = _PAGE.format(
    head="<style>body { font-family: sans-serif } td { padding: 0.2em 1em 0.2em 0 }</style>\n",
    body="<table>\n"
    + "".join(
        f"<tr><td>{operation.replace(' ', '</td><td>')}</td><td>{escape(about.summary)}</td></tr>\n"
        for operation, about in OPERATIONS.items()
    )
    + "</table>\n<p>To try them out on this page, install the service with "
    "<code>pip install 'heksher[docs-ui]'</code>.</p>\n",
)
_SCRIPTS: Mapping[str, str] = {
    "start-swagger.js": (
        'SwaggerUIBundle({url: "openapi.json", dom_id: "#page", deepLinking: true, '
        "validatorUrl: null});\n"
    ),
    "start-redoc.js": (
        'Redoc.init("openapi.json", {disableSearch: true}, document.getElementById("page"));\n'
    ),
}
_NO_OAUTH = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Heksher</title></head>
<body><p>This service does not use OAuth.</p></body>
</html>
"""


def pages(version: str, described: Sequence[Route], *, with_token: bool) -> list[Route]:
    """Make the routes of the document and the pages.

    Args:
        version: the version of the service.
        described: the routes that the document describes.
        with_token: whether the service requires a token.
    """
    folder = _folder()
    swagger, redoc = (_SWAGGER, _REDOC) if folder else (_LIST, _LIST)

    @lru_cache(maxsize=8)  # by prefix; there is rarely more than one
    def encoded(root_path: str) -> bytes:
        return msgspec.json.encode(
            document(version, responses(described), root_path=root_path, with_token=with_token)
        )

    async def openapi(request: Request) -> Response:
        root_path = str(request.scope.get("root_path", ""))
        return Response(encoded(root_path), media_type="application/json")

    def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name in _SCRIPTS:
            return Response(_SCRIPTS[name], media_type="text/javascript")
        if folder is None or name not in _FILES:
            raise HTTPException(404)
        # Starlette's own response for files honours Range, whose many parts can take it seconds.
        return Response((folder / name).read_bytes(), media_type=_FILES[name])

    return [
        Route("/openapi.json", openapi),
        _page("/docs", swagger),
        _page("/docs/oauth2-redirect", _NO_OAUTH),
        _page("/redoc", redoc),
        Route("/docs/files/{name}", file),
    ]


def _folder() -> Path | None:
    """Return the folder of the files, or None without the package."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "static"
    return folder if all((folder / name).is_file() for name in _FILES) else None


def _page(path: str, html: str) -> Route:
    async def page(_request: Request) -> Response:
        return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY})

    return Route(path, page)
