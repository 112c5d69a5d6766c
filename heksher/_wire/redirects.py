"""Which redirects are followed: those that lead to an address below the service's own.

A request may carry credentials, and the operator chose to send them to one origin and one path there.
A redirect must not take them anywhere else. "Below the service's own address" is decided by comparing
text, and text can hide where it leads in three ways:

- `urljoin` removes the ``.`` and ``..`` segments of a location without a host and keeps those of one with
  a host: ``http://host/base/../x`` begins with ``http://host/base/``, and the HTTP client or the server
  turns it into ``http://host/x`` later.
- Dots and slashes may be percent-encoded: ``%2e%2e`` is ``..`` for many servers.
- Many servers and proxies take a backslash for a slash.

So after the comparison, the path is decoded, its backslashes are read as slashes, and a location with a
``.`` or ``..`` segment left is refused. No service needs one. A user name in a location is refused by the
comparison, since the service's address never contains one.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import unquote, urljoin

from heksher._wire.messages import Request, Response

# 303 and, for a POST, 301 and 302 mean "go on with a GET", which would not be the same request.
_REDIRECTS = frozenset((307, 308))
_REDIRECTS_OF_GET = frozenset((301, 302))


def redirected(base_url: str, request: Request, response: Response) -> Request | None:
    """Return the request to send instead, or None if the response is no redirect to follow.

    Args:
        base_url: the service's address, with a slash at its end.
        request: the request that was sent.
        response: the response to it.
    """
    location = response.headers.get("location")
    if location is None or not (
        response.status in _REDIRECTS
        or (response.status in _REDIRECTS_OF_GET and request.method == "GET")
    ):
        return None
    try:
        url = urljoin(base_url + request.target, location)
    except ValueError:  # such as an address with an unmatched bracket
        return None
    if not url.startswith(base_url):
        return None
    target = url[len(base_url) :].partition("#")[0]
    path = unquote(target.partition("?")[0]).replace("\\", "/")
    if not {".", ".."}.isdisjoint(path.split("/")):
        return None
    return replace(request, target=target)
