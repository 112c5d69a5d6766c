"""Which redirects are followed: those that stay below the service's own address."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote, urljoin

from heksher._wire.messages import Request, Response

_MOVED = frozenset((307, 308))
_MOVED_FOR_GET = frozenset((301, 302))


def redirected(base_url: str, request: Request, response: Response) -> Request | None:
    """Return the request to make instead, if the answer is a redirect that may be followed.

    Only to the same origin, and below the service's own address: whatever credentials the request
    carries are for there.

    Args:
        base_url: the service's address, with a slash at the end.
        request: what was asked.
        response: what came.
    """
    location = response.headers.get("location")
    if location is None or not (
        response.status in _MOVED or (response.status in _MOVED_FOR_GET and request.method == "GET")
    ):
        return None
    try:
        moved = urljoin(base_url + request.target, location)
    except ValueError:  # it is no URL
        return None
    if not moved.startswith(base_url):
        return None
    target = moved[len(base_url) :].partition("#")[0]
    # An absolute URL keeps its dots here, and loses them where it is sent or received.
    path = unquote(target.partition("?")[0]).replace("\\", "/")
    if not {".", ".."}.isdisjoint(path.split("/")):
        return None
    return replace(request, target=target)
