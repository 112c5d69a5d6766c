"""How HTTP clients are made, and which cookies they keep."""

from __future__ import annotations

from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import Any

CONNECT_TIMEOUT = 5.0

# What is kept of the cookies that the service sets, and sent with each request: what a proxy or a
# session needs, and no more than servers take.
_MOST_COOKIES = 20
_LONGEST_COOKIE = 4096


class FewCookies(DefaultCookiePolicy):
    """Takes what cookies a service may need, and not one after another for ever."""

    def __init__(self, jar: CookieJar) -> None:
        super().__init__()
        self._jar = jar

    def set_ok(self, cookie: Cookie, request: Any) -> bool:
        """Whether *cookie*, which an answer sets, is kept."""
        here = {(each.domain, each.path, each.name) for each in self._jar}
        return (
            super().set_ok(cookie, request)
            and len(cookie.name) + len(cookie.path) + len(cookie.value or "") <= _LONGEST_COOKIE
            and (len(here) < _MOST_COOKIES or (cookie.domain, cookie.path, cookie.name) in here)
        )
