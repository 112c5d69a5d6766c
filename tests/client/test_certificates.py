"""Certificates that are renewed while a client runs."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from socket import socket

import httpx
import pytest
import trustme
from support.harness import Harness
from support.leftovers import Leftovers
from support.misbehaving import MisbehavingServer, http

from heksher.exceptions import HeksherError, InvalidArgumentError, ServiceUnreachableError

BODY = http(b'{"version": "1"}')
FEATURES = ["user"]


def certified(authority: trustme.CA) -> ssl.SSLContext:
    """Return a context for a server at 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    return context


def test_a_file_of_authorities_that_is_renewed_is_read(
    backend: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "authorities.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    trustme.CA().cert_pem.write_to_path(str(path))
    authority = trustme.CA()

    async def body() -> None:
        leftovers = Leftovers()
        client = backend.client(server.url, 60, FEATURES)
        for _ in range(2):
            with pytest.raises(ServiceUnreachableError, match="certificate verify failed"):
                await client.ping()
        path.write_text("")  # as it is being written
        with pytest.raises(InvalidArgumentError, match="SSL_CERT_FILE"):
            await client.ping()
        authority.cert_pem.write_to_path(str(path))
        for _ in range(2):
            await client.ping()
        await client.close()
        await backend.until(lambda: server.open_connections() == 0, "they are closed")
        await leftovers.gone(backend)

    with MisbehavingServer(BODY, certified(authority)) as server:
        backend.run(body)


def test_a_certificate_of_the_clients_that_is_renewed_is_read_by_its_callable(
    backend: Harness, tmp_path: Path
) -> None:
    """The service ends the connection, and says why; under TLS 1.3 that comes after the handshake."""
    path = tmp_path / "client.pem"
    authority = trustme.CA()
    server_side = certified(authority)
    server_side.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server_side)  # pyright: ignore[reportUnknownMemberType]

    def renew(issuer: trustme.CA) -> None:
        issuer.issue_cert("client.test").private_key_and_cert_chain_pem.write_to_path(str(path))

    def make() -> httpx.Client | httpx.AsyncClient:
        context = ssl.create_default_context()
        authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
        context.load_cert_chain(path)
        kind = httpx.Client if backend.is_blocking else httpx.AsyncClient
        return kind(verify=context)

    async def body() -> None:
        client = backend.client(server.url, 60, FEATURES, http_client=make)
        renew(trustme.CA())
        with pytest.raises(ServiceUnreachableError):
            await client.ping()
        renew(authority)
        await client.ping()
        await client.close()

    with MisbehavingServer(BODY, server_side) as server:
        backend.run(body)


def test_requests_under_way_outlast_an_error_of_tls(
    backend: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "authorities.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(path))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    asked, go_on = threading.Event(), threading.Event()

    def slow(connection: socket, stop: threading.Event) -> None:
        asked.set()
        go_on.wait(30)
        BODY(connection, stop)

    async def body() -> None:
        leftovers = Leftovers()
        client = backend.client(server.url, 60, FEATURES)
        ping = backend.beside(client.ping)
        await backend.until(asked.is_set, "the ping is under way")
        server.tls = certified(trustme.CA())
        with pytest.raises(HeksherError, match="certificate verify failed"):
            await client.get_settings()
        go_on.set()
        await backend.until(lambda: ping.ended, "the ping ends")
        assert ping.error is None
        if not backend.is_blocking:  # where another HTTP client made the second request
            await backend.until(lambda: server.open_connections() == 0, "the first one is closed")
        await client.close()
        await leftovers.gone(backend)

    with MisbehavingServer(BODY, certified(authority)) as server:
        server.answer_by("api/health", slow)
        backend.run(body)
