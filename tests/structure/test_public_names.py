"""The names that applications may rely on. Whoever changes one here has to tell them."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

import heksher
from heksher import backends, clients, exceptions, setting, setting_type, status, testing
from heksher.clients import stub

#: What typing and importing leave behind in a module.
LEFT_OVER = {"Any", "Sequence", "TYPE_CHECKING", "annotations"}


def own_names(module: ModuleType) -> set[str]:
    """Names without an underscore, but for submodules, which come and go with what is imported."""
    return {
        name
        for name in dir(module)
        if not name.startswith("_") and not isinstance(getattr(module, name), ModuleType)
    } - LEFT_OVER


def test_names_of_the_package() -> None:
    public = {
        "AsyncHeksherClient",
        "ClientStatus",
        "HeksherEnum",
        "HeksherFlags",
        "HeksherMapping",
        "HeksherSequence",
        "Setting",
        "SettingType",
        "ThreadHeksherClient",
        "TRACK_ALL",
    }
    assert set(heksher.__all__) == {*public, "__version__"}
    assert own_names(heksher) == public
    assert len(heksher.__all__) == len(set(heksher.__all__))


def test_names_of_a_setting() -> None:
    public = {
        "name",
        "type",
        "configurable_features",
        "default_value",
        "metadata",
        "alias",
        "version",
        "get",
        "add_validator",
    }
    ttl = heksher.Setting("ttl", int, ["user"], 60)
    for shown in (dir(heksher.Setting), dir(ttl)):
        assert {name for name in shown if not name.startswith("_")} == public


@pytest.mark.parametrize("name", heksher.__all__)
def test_each_name_of_the_package_is_there(name: str) -> None:
    assert getattr(heksher, name) is not None
    assert name in dir(heksher)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'heksher' has no attribute 'Settings'"):
        _ = heksher.Settings


def test_names_of_the_errors() -> None:
    assert own_names(exceptions) == {
        "BackendError",
        "ClientClosedError",
        "ClientNotStartedError",
        "ContradictingArgumentError",
        "DeclarationRejected",
        "DuplicateSettingError",
        "HeksherError",
        "InvalidArgumentError",
        "InvalidDefaultError",
        "InvalidResponseError",
        "InvalidSettingError",
        "MissingFeatureError",
        "NoMatchError",
        "ServiceError",
        "ServiceUnreachableError",
        "StartupTimeoutError",
        "UnexpectedStatusError",
        "UnknownFeatureError",
        "UnsupportedTypeError",
        "WrongEventLoopError",
    }


def test_names_of_the_status() -> None:
    assert set(status.__all__) == {
        "ClientState",
        "ClientStatus",
        "CoercedRule",
        "DataSource",
        "DeclarationState",
        "DeclaredSetting",
        "RejectedRule",
        "SettingData",
        "SnapshotStatus",
    }
    assert {getattr(status, name).__module__ for name in status.__all__} == {"heksher.status"}


def test_names_of_the_backends() -> None:
    assert set(backends.__all__) == {
        "AsyncBackend",
        "Backend",
        "Clock",
        "Event",
        "HttpOptions",
        "ScopedTask",
        "Task",
        "Transport",
        "choose_async",
        "choose_blocking",
        "run_blocking",
    }
    assert [name for name in backends.__all__ if not hasattr(backends, name)] == []


def test_names_of_modules_that_0_2_2_had() -> None:
    assert set(setting.__all__) == {"OnCoerce", "QueriedRule", "Setting", "Validator"}
    assert set(exceptions.__all__) == own_names(exceptions)
    types = {
        "BoolType",
        "FloatType",
        "Form",
        "HeksherEnum",
        "HeksherFlags",
        "HeksherMapping",
        "HeksherSequence",
        "IntType",
        "LiteralType",
        "SettingType",
        "StrType",
        "TypeLike",
        "setting_type",
    }
    assert set(setting_type.__all__) == own_names(setting_type) == types
    for name in types - {"Form", "TypeLike"}:
        assert getattr(setting_type, name).__module__ == "heksher.setting_type"


def test_names_for_tests() -> None:
    assert set(stub.__all__) == {"AsyncStubHeksherClient", "Rule", "SyncStubHeksherClient"}
    assert set(testing.__all__) == {"reset"}
    for module in (stub, testing):
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_the_package_of_the_clients_has_no_names_of_its_own() -> None:
    assert own_names(clients) == set()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("heksher.setting", "Setting"),
        ("heksher.setting_type", "SettingType"),
        ("heksher.setting_type", "HeksherEnum"),
        ("heksher.setting_type", "HeksherFlags"),
        ("heksher.setting_type", "HeksherMapping"),
        ("heksher.setting_type", "HeksherSequence"),
        ("heksher.setting_type", "setting_type"),
        ("heksher.exceptions", "HeksherError"),
        ("heksher.clients.async_client", "AsyncHeksherClient"),
        ("heksher.clients.thread_client", "ThreadHeksherClient"),
        ("heksher.clients.stub", "AsyncStubHeksherClient"),
        ("heksher.clients.stub", "Rule"),
        ("heksher.clients.stub", "SyncStubHeksherClient"),
        ("heksher.clients.async_client", "AsyncModificationLock"),
        ("heksher.clients.thread_client", "ThreadModificationLock"),
        ("heksher.status", "ClientStatus"),
        ("heksher.status", "SettingData"),
        ("heksher.testing", "reset"),
    ],
)
def test_documented_places_hold_what_they_are_documented_for(module: str, name: str) -> None:
    found = getattr(importlib.import_module(module), name)
    assert found.__module__ == module
    if name in heksher.__all__:
        assert getattr(heksher, name) is found
