"""The names that applications may use. docs/stability.md promises that they keep working.

If you change a name here, follow the deprecation policy there.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import heksher
from heksher import Setting, clients

PAGE = Path(__file__).parents[2] / "docs" / "stability.md"

#: The names of each public module.
PUBLIC = {
    "heksher": """
        AsyncHeksherClient ClientStatus Cohort DataSource Explanation HeksherEnum HeksherFlags
        HeksherMapping HeksherSequence Reason Rule Setting SettingChanged SettingType SettingsChanged
        Subscription ThreadHeksherClient TRACK_ALL ValueChanged __version__ override
    """,
    "heksher.explanation": """
        Candidate ContextValue ExplainedRule Explanation FeatureSource Reason
    """,
    "heksher.setting": """
        Get OnCoerce QueriedRule Setting SettingChanged SettingsChanged Subscription Validator ValueChanged
    """,
    "heksher.setting_type": """
        BoolType FloatType Form HeksherEnum HeksherFlags HeksherMapping HeksherSequence IntType LiteralType
        ReadOnlyDict SettingType StrType TypeLike setting_type
    """,
    "heksher.status": """
        ClientState ClientStatus CoercedRule DataSource DeclarationState DeclaredSetting RejectedRule
        SettingData SnapshotStatus
    """,
    "heksher.exceptions": """
        BackendError ClientClosedError ClientNotStartedError ContradictingArgumentError DeclarationRejected
        DuplicateSettingError FeatureTypeError HeksherError InvalidArgumentError InvalidDefaultError
        InvalidResponseError InvalidSettingError MissingFeatureError NoMatchError ServiceError
        ServiceUnreachableError StartupTimeoutError UnexpectedStatusError UnknownFeatureError
        UnsupportedTypeError WrongEventLoopError
    """,
    "heksher.backends": """
        AsyncBackend Backend Clock Event HttpOptions ScopedTask Task Transport choose_async choose_blocking
        run_blocking
    """,
    "heksher.clients.async_client": "AsyncHeksherClient AsyncModificationLock",
    "heksher.clients.thread_client": "ThreadHeksherClient ThreadModificationLock",
    "heksher.clients.stub": """
        AsyncStubHeksherClient Rule SavedRules StubbedSetting SyncStubHeksherClient
    """,
    "heksher.service": "CannotStartError create_app",
    "heksher.testing": "reset",
    "heksher.testing.service": "DEADLINE LiveService",
    "heksher.testing.faults": """
        Bomb Certificate Close ContentEncoding ContentType CutShort Delay Endless Fault FaultRule Faults
        InvalidJson Redirect Refuse Reset Seen Slow Status When WrongETag WrongShape
    """,
    "heksher.testing.faults.proxy": "Certificates FaultProxy",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_names_of_public_modules(module: str) -> None:
    names = importlib.import_module(module).__all__
    assert sorted(names) == sorted(PUBLIC[module].split())


@pytest.mark.parametrize("module", PUBLIC)
def test_public_objects_name_their_public_place(module: str) -> None:
    found = importlib.import_module(module)
    for name in PUBLIC[module].split():
        thing = getattr(found, name)
        if isinstance(thing, type | FunctionType):
            assert thing.__module__ in PUBLIC, name
            assert name in PUBLIC[thing.__module__].split()
            assert getattr(importlib.import_module(thing.__module__), name) is thing


def test_the_page_on_stability_lists_the_public_modules() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## What is public")[2]
    (names,) = re.findall(r"^- The names in `heksher.__all__`, .*$", section, re.MULTILINE)
    assert sorted(re.findall(r"`(heksher[\w.]*?)(?:\.__all__)?`", names)) == sorted(PUBLIC)


def own_names(module: ModuleType) -> set[str]:
    """Return the names that completion shows for a module; submodules depend on what is imported."""
    return {
        name
        for name in dir(module)
        if not name.startswith("_") and not isinstance(getattr(module, name), ModuleType)
    } - {"TYPE_CHECKING", "Any", "annotations"}


def test_the_package_shows_no_other_names() -> None:
    assert own_names(heksher) == set(PUBLIC["heksher"].split()) - {"__version__"}
    assert own_names(clients) == set()


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'heksher' has no attribute 'Settings'"):
        _ = heksher.Settings


def test_a_setting_shows_only_what_is_for_applications() -> None:
    expected = {
        "name",
        "type",
        "configurable_features",
        "default_value",
        "metadata",
        "alias",
        "version",
        "get",
        "explain",
        "add_validator",
        "on_change",
    }
    setting = Setting("cache_ttl", int, ["user"], 60)
    for thing in (Setting, setting):
        assert {name for name in dir(thing) if not name.startswith("_")} == expected
