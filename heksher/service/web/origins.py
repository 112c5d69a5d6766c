"""Whether a request may come from a web page that is not this service's own. Pure.

A browser sends requests for every page that its user visits, also to services that only this machine or
network can reach. Pages of strangers use this in two ways:

- A page sends requests to another origin. It cannot read the answers, but its changes would be made.
  Browsers mark these requests with ``Sec-Fetch-Site``, or at least with the page's ``Origin``.
- DNS rebinding: once a page is loaded, its name is made to resolve to the service. The browser takes the
  service for the page's own origin then. Only ``Host`` shows the name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from ipaddress import ip_address

from heksher._text import shown
from heksher.service.domain.errors import CannotStartError

# In the collection of allowed names: every name is allowed.
ANY = "*"

# Underscores are no letters of DNS, but of the names of containers.
_NAME = re.compile(r"[a-z0-9._-]+", re.ASCII)


def checked_names(given: str | Collection[str]) -> frozenset[str]:
    """Check and normalise allowed names.

    Raises:
        CannotStartError: one of them is not a name.
    """
    names = frozenset(
        name.lower().rstrip(".") for name in ((given,) if isinstance(given, str) else given)
    )
    for name in names:
        if name != ANY and _NAME.fullmatch(name) is None:
            raise CannotStartError(
                f"invalid allowed host {shown(name)}: expected a name without scheme and port, "
                f"or {ANY!r} for any"
            )
    return names


# Clients repeat their headers, and to parse an address takes longer than to look a setting up.
@lru_cache(32)
def is_own_name(host: str, server: str, allowed: frozenset[str]) -> bool:
    """Whether no stranger can have made the name in *host* resolve to this service.

    Args:
        host: the header ``Host``. It may be empty, which no browser sends.
        server: address of this end of the connection.
        allowed: names from `checked_names`.
    """
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    name = name.lower().rstrip(".")
    if not host or name in allowed or ANY in allowed:
        return True
    if name == "localhost" or name.endswith(".localhost") or _is_address(name):
        return True
    # No one can register a name without a dot. Networks of containers use such names. Connections from
    # this machine itself do not need them.
    return "." not in name and not is_loopback(server)


def is_foreign_page(method: str, headers: Mapping[str, str]) -> bool:
    """Whether the request comes from a web page of another origin, and not from following a link."""
    site = headers.get("sec-fetch-site")
    if site is None:
        origin = headers.get("origin")
        return origin is not None and origin.partition("://")[2] != headers.get("host")
    if method == "GET" and headers.get("sec-fetch-mode") == "navigate":
        return False
    return site not in ("same-origin", "none")


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address, is that of this machine for itself."""
    return host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
