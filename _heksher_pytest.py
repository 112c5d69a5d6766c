"""Fixtures for pytest: a live service to test against, and a stub client.

Their public place is `heksher.pytest_plugin`. pytest loads this module in every run in an environment with
heksher, also where no test needs it. It is therefore outside of the package, whose import takes time, and
imports only pytest. Everything else is imported when a test uses a fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from heksher.clients.stub import SyncStubHeksherClient
    from heksher.testing.service import LiveService

_MARKERS = (
    "heksher_service(features=[], in_process=False, tls=False, api_token=None, faults=''): "
    "options of the fixture heksher_service for this test",
    "heksher_stub(features=[], strict=True): options of the fixture heksher_stub for this test",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings that a project makes for all its tests."""
    parser.addini(
        "heksher_features",
        "context features of the fixtures heksher_service and heksher_stub, in the service's order",
        "args",
        default=[],
    )
    parser.addini(
        "heksher_service_in_process",
        "whether the fixture heksher_service runs in the test process",
        "bool",
        default=False,
    )
    parser.addini(
        "heksher_service_scope",
        "scope of the fixture heksher_service: function, class, module, package or session",
        default="function",
    )
    parser.addini(
        "heksher_stub_strict",
        "whether the fixture heksher_stub is strict, so that tests fail where production would",
        "bool",
        default=True,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


def _options(request: pytest.FixtureRequest, marker_name: str, *known: str) -> dict[str, Any]:
    """Return the options that a test's marker gives its fixture."""
    marker = request.node.get_closest_marker(marker_name)
    if marker is None:
        return {}
    if unknown := marker.kwargs.keys() - set(known):
        raise pytest.UsageError(
            f"unknown option {', '.join(sorted(unknown))} of the marker {marker_name}: "
            f"expected {', '.join(known)}"
        )
    if marker.args:
        raise pytest.UsageError(f"the marker {marker_name} accepts its options only by name")
    return dict(marker.kwargs)


def _scope(fixture_name: str, config: pytest.Config) -> Any:  # noqa: ARG001 (pytest's signature)
    return config.getini("heksher_service_scope")


@pytest.fixture(scope="session")
def _heksher_services() -> Iterator[Callable[..., LiveService]]:
    """Share running services, one per configuration: emptying one is faster than starting one."""
    from heksher.testing.service import LiveService

    services: dict[tuple[bool, str | None], LiveService] = {}
    with ExitStack() as stack:

        def service(*, in_process: bool, api_token: str | None) -> LiveService:
            key = in_process, api_token
            if key not in services:
                made = LiveService(in_process=in_process, api_token=api_token)
                services[key] = stack.enter_context(made)
            return services[key]

        yield service


@pytest.fixture(scope=_scope)
def heksher_service(
    request: pytest.FixtureRequest, _heksher_services: Callable[..., LiveService]
) -> Iterator[LiveService]:
    """A Heksher service without settings, at a URL of its own, with faults on demand.

    ::

        def test_something(heksher_service):
            heksher_service.features = ["environment", "user"]
            heksher_service.add_rule(cache_ttl, 5, user="jim")
            features = ["environment", "user"]
            with ThreadHeksherClient(heksher_service.url, 30, features, startup="raise"):
                ...
    """
    options = _options(
        request, "heksher_service", "features", "in_process", "tls", "api_token", "faults"
    )
    config = request.config
    service = _heksher_services(
        in_process=options.get("in_process", config.getini("heksher_service_in_process")),
        api_token=options.get("api_token"),
    )
    service.renew(
        options.get("features", config.getini("heksher_features")), tls=options.get("tls", False)
    )
    service.faults.load(options.get("faults", ""))
    yield service
    service.faults.clear()


@pytest.fixture
def heksher_stub(request: pytest.FixtureRequest) -> Iterator[SyncStubHeksherClient]:
    """A strict stub client that is the main client during one test. Everything is undone afterwards.

    ::

        def test_something(heksher_stub):
            heksher_stub.set_defaults(environment="dev")
            heksher_stub[cache_ttl].rules = 5
    """
    from heksher._rules.contexts import checked_features
    from heksher.clients.stub import SyncStubHeksherClient

    options = _options(request, "heksher_stub", "features", "strict")
    features = options.get("features", request.config.getini("heksher_features"))
    strict = options.get("strict", request.config.getini("heksher_stub_strict"))
    with SyncStubHeksherClient(
        context_features=checked_features(features, at_least=0), strict=strict
    ) as stub:
        yield stub
