"""HTTP/2, which clients use by ``http_client_args={"http2": True}``: a real server with TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme
from serving import Served
from support.harness import AnyClient, Harness

from heksher import Setting
from heksher.exceptions import InvalidResponseError, ServiceUnreachableError
from heksher.testing.service import DEADLINE


@dataclass
class Service:
    """A service that speaks HTTP/2.

    Attributes:
        url: its address.
        trusting: a context that trusts its certificate.
    """

    url: str
    trusting: ssl.SSLContext

    def client(self, backend: Harness, path: str = "", **options: object) -> AnyClient:
        # No timeouts of httpx's, so that only those of the client end a request.
        arguments = {"http2": True, "verify": self.trusting, "timeout": None}
        return backend.client(self.url + path, 60, ["user"], http_client_args=arguments, **options)

    def post(self, path: str, **body: object) -> None:
        httpx.post(f"{self.url}/api/v1/{path}", json=body, verify=self.trusting).raise_for_status()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("http2")
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)  # pyright: ignore[reportUnknownMemberType]
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "certificate.pem")
    )
    # It keeps connections longer than any request here, so that it does not end a client's wait.
    command = "-m hypercorn --bind fd://{fd} --keep-alive 300"
    files = ["--certfile", "certificate.pem", "--keyfile", "certificate.pem"]
    with Served([*command.split(), *files, "http2_app:app"], "", folder) as server:
        made = Service(f"https://127.0.0.1:{server.port}", trusting)
        # The listening socket is open already, so that this waits for the server.
        with httpx.Client(http2=True, verify=trusting, timeout=DEADLINE) as client:
            assert client.get(f"{made.url}/api/health").http_version == "HTTP/2"
        yield made


def test_updates_come_by_http_2(backend: Harness, service: Service) -> None:
    name = f"limit_{backend.name}"
    limit = Setting(name, int, ["user"], 1)

    async def body() -> None:
        async with service.client(backend) as client:
            assert client.status.last_error is None
            service.post(
                "rules", setting=name, feature_values={"user": "jim"}, value=5, metadata={}
            )
            for _ in range(2):  # the second one finds nothing new
                await client.reload()
                assert limit.get(user="jim") == 5
            await client.ping()
            assert client.status.last_error is None

    backend.run(body)


def test_a_request_by_http_2_is_bounded_in_time_and_size(
    backend: Harness, service: Service
) -> None:
    async def body() -> None:
        for path, error, text in (
            ("/silent", ServiceUnreachableError, r"longer than 0\.5 seconds"),
            ("/large", InvalidResponseError, "is larger than max_response_bytes=1000"),
        ):
            client = service.client(
                backend,
                path,
                request_timeout=0.5 if path == "/silent" else 30,
                max_response_bytes=1000,
            )
            for _ in range(2):
                with pytest.raises(error, match=text):
                    await client.ping()
            await client.close()

    backend.run(body)
