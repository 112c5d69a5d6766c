"""HTTP clients: how they are made, what one that was handed in must be, and which cookies are kept.

Knows how to make clients, and makes no request.
"""

from __future__ import annotations

import inspect
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from heksher.backends._fork_lock import fork_lock
from heksher.backends._http.network import AsyncNetwork, BlockingNetwork, install
from heksher.backends.base import HttpOptions
from heksher.exceptions import InvalidArgumentError

# Connecting may take this many seconds, and at most half of what a request may take. It is the part of a
# blocking request that cannot be ended from outside, and where httpcore leaves a socket open if it is
# cancelled instead of timed out (see `HandshakeGuard`).
_CONNECT_TIMEOUT = 5.0

# Keep at most this many cookies of the service. Proxies and sessions need a few; they are sent with each
# request, and servers refuse a request with too many.
_MAX_COOKIES = 20
# Keep no cookie whose name, path and value have more than this many characters together.
_MAX_COOKIE_LENGTH = 4096


class BoundedCookiePolicy(DefaultCookiePolicy):
    """Accepts as many cookies as a service may need, and not one after another without end."""

    def __init__(self, jar: CookieJar) -> None:
        super().__init__()
        self._jar = jar

    def set_ok(self, cookie: Cookie, request: Any) -> bool:
        """Whether *cookie*, which an answer sets, is kept."""
        kept = {(each.domain, each.path, each.name) for each in self._jar}
        return (
            super().set_ok(cookie, request)
            and len(cookie.name) + len(cookie.path) + len(cookie.value or "") <= _MAX_COOKIE_LENGTH
            and (len(kept) < _MAX_COOKIES or (cookie.domain, cookie.path, cookie.name) in kept)
        )


def make_client(
    options: HttpOptions, default: type[Any], network: AsyncNetwork | BlockingNetwork
) -> tuple[Any, bool]:
    """Return an HTTP client for *options*, and whether the caller has to close it.

    Args:
        options: how to reach the service.
        default: ``httpx.Client`` or ``httpx.AsyncClient``, to make one if none is handed in.
        network: makes the connections of that one.

    Raises:
        InvalidArgumentError: there is no such client.
        Exception: whatever a callable of the application raises.
    """
    if options.client is None:
        client = _make_default(options, default)
        if not options.has_ready_transport:
            install(client, network)
        return client, True
    is_ready = options.has_ready_client
    client = options.client if is_ready else options.client()
    # Both kinds have build_request(), and only asynchronous clients have aclose().
    if not hasattr(client, "build_request") or (
        hasattr(client, "aclose") != hasattr(default, "aclose")
    ):
        made: object = client
        if inspect.iscoroutine(client):
            client.close()  # otherwise Python warns that it was never awaited
        # The object itself is not shown: a functools.partial shows its arguments, which may hold a token.
        raise InvalidArgumentError(
            f"invalid http_client=: it {'is' if is_ready else 'made'} an object of the class "
            f"{type(made).__module__}.{type(made).__name__}; "
            f"expected an httpx.{default.__name__} or an object that works like one"
        )
    return client, not is_ready


def _make_default(options: HttpOptions, default: type[Any]) -> Any:
    arguments = options.client_args
    seconds = options.request_timeout
    timeout = httpx.Timeout(seconds, connect=min(seconds / 2, _CONNECT_TIMEOUT))
    try:
        # It loads certificates, and OpenSSL takes locks of its own for that. See `_fork_lock`.
        with fork_lock:
            client = default(**{"timeout": timeout, **arguments})
    except Exception as error:
        # A text may show an argument's value, and that may be a password. These two show names only.
        text = str(error)
        may_show = "unexpected keyword" in text or isinstance(error, ImportError)
        reason = text if may_show else type(error).__name__
        if "proxies" in arguments:
            reason += "; proxy= and mounts= have replaced proxies="
        raise InvalidArgumentError(
            f"invalid http_client_args ({', '.join(map(str, arguments))}): "
            f"httpx.{default.__name__} does not take them: {reason}"
            if arguments
            else f"httpx.{default.__name__} cannot be made: {reason}; check the environment variables "
            "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR"
        ) from None
    jar = client.cookies.jar
    if jar is not arguments.get("cookies"):  # the application decides what its own jar takes
        jar.set_policy(BoundedCookiePolicy(jar))
    return client
