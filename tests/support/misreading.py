"""A Heksher service that reads filters as version 0.5.7 does, in front of the embedded service.

The embedded service follows the grammar of filters. The original checks the grammar as well, but then
takes only the lower-case letters right before the colon as the feature's name, and drops an item without
any. `misread` returns the filter that the original sees. ``test_misreading.py`` compares it with
recorded exchanges.
"""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qsl, urlencode

import httpx

_ITEM = r"[A-Za-z0-9_]+:(?:\*|\([A-Za-z0-9_]+(?:,[A-Za-z0-9_]+)*\))"
_FILTERS = re.compile(rf"{_ITEM}(?:,{_ITEM})*")
_WHAT_IS_READ = re.compile(r"[a-z]+:(?:\*|\([^)]*\))")

_PASSED_ON = ("content-type", "etag", "location", "allow")


def misread(filters: str) -> str:
    """Return the filter that the original takes *filters* for."""
    if not _FILTERS.fullmatch(filters):
        return filters  # everything, nothing, or malformed: the original sees it as it is
    return ",".join(_WHAT_IS_READ.findall(filters))


def misread_query(query: str) -> str:
    """Return the query string that means to the embedded service what *query* means to the original."""
    return urlencode(
        [
            (name, misread(value) if name == "context_filters" else value)
            for name, value in parse_qsl(query, keep_blank_values=True)
        ]
    )


class MisreadingService:
    """An HTTP server that forwards every request to *url* with a misread filter."""

    def __init__(self, url: str) -> None:
        #: The filters of all queries, as they arrived; None for a query without one.
        self.filters: list[str | None] = []
        self._http = httpx.Client(base_url=url, trust_env=False)
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service._hand_on(self)

            do_POST = do_GET  # noqa: N815 - the name that the base class looks for

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def _hand_on(self, request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        if path == "/api/v1/query":
            asked = dict(parse_qsl(query, keep_blank_values=True))
            self.filters.append(asked.get("context_filters"))
        headers = {
            name: request.headers[name]
            for name in ("content-type", "if-none-match")
            if name in request.headers
        }
        answer = self._http.request(
            request.command,
            f"{path}?{misread_query(query)}" if query else path,
            headers=headers,
            content=request.rfile.read(int(request.headers.get("content-length", 0))),
        )
        request.send_response(answer.status_code)
        for name in _PASSED_ON:
            if name in answer.headers:
                request.send_header(name, answer.headers[name])
        request.send_header("content-length", str(len(answer.content)))
        request.end_headers()
        request.wfile.write(answer.content)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._http.close()
