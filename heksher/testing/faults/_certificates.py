"""Certificates of the fault proxy: its own authority, valid certificates and faulty ones.

Knows TLS and trustme, which it imports only if a proxy has TLS. Knows no sockets.
"""

from __future__ import annotations

import datetime
import ssl
import threading

_MISSING_EXTRA = "a proxy with TLS needs more packages: pip install 'heksher[testing]'"


class Certificates:
    """A certificate authority, with valid and faulty server certificates that it has signed."""

    def __init__(self, host: str) -> None:
        try:
            import trustme
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(_MISSING_EXTRA, name=error.name) from error

        self._authority = trustme.CA()
        self._host = host
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    @property
    def authority_pem(self) -> bytes:
        """The authority's certificate in PEM format, for clients that need a file."""
        return self._authority.cert_pem.bytes()

    def trusting(self) -> ssl.SSLContext:
        """Return a context for clients that trusts only this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
        return context

    def context(self, problem: str | None) -> ssl.SSLContext:
        """Return a context for servers, with a valid certificate or one that has this problem."""
        with self._lock:
            if problem not in self._contexts:
                self._contexts[problem] = self._make(problem)
            return self._contexts[problem]

    def _make(self, problem: str | None) -> ssl.SSLContext:
        import trustme

        authority = trustme.CA() if problem == "unknown" else self._authority
        names = (
            ["elsewhere.invalid"]
            if problem == "host"
            else [self._host, "localhost", "127.0.0.1", "::1"]
        )
        expires = None
        if problem == "expired":
            expires = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        certificate = authority.issue_cert(*names, not_after=expires)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
        return context
