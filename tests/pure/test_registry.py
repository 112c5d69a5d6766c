"""The registry: settings reach the main client, whichever is made first; duplicates are refused."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import pytest

from heksher import Setting, ThreadHeksherClient, _registry
from heksher._listening import ClientListeners
from heksher.exceptions import DuplicateSettingError, InvalidSettingError


class Client:
    """A client that notes the calls of the registry: ``+name``, ``-name``, and ``-*`` for all."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.listeners = ClientListeners(_registry.lock)
        self.served: weakref.WeakSet[Setting[Any]] = weakref.WeakSet()
        self.refuses: set[str] = set()

    def attach(self, settings: Iterable[Setting[Any]]) -> None:
        for setting in settings:
            if setting.name in self.refuses:
                raise DuplicateSettingError("served already, differently", setting.name)
            self.told.append(f"+{setting.name}")
            self.served.add(setting)

    def detach(self, settings: Iterable[Setting[Any]] | None) -> None:
        if settings is None:
            self.told.append("-*")
            self.served.clear()
            return
        for setting in settings:
            self.told.append(f"-{setting.name}")
            self.served.discard(setting)


def setting_of(name: str, default: int = 1) -> Setting[int]:
    return Setting(name, int, ["user"], default)


def module_with(name: str, source: str) -> ModuleType:
    """Make a module without a file. Settings that it defines belong to this module."""
    module = ModuleType(name)
    code = compile(source, f"/app/{name}.py", "exec")
    run_in(module, code)
    return module


def run_in(module: ModuleType, code: Any) -> None:
    exec(code, vars(module))


ONE = "from heksher import Setting\nttl = Setting('ttl', int, ['user'], 60)\n"
OTHER = "from heksher import Setting\n\nttl = Setting('ttl', int, ['user'], 90)\n"


# --- the main client ------------------------------------------------------------------------------


def test_settings_wait_for_the_main_client() -> None:
    kept = [setting_of("a"), setting_of("b")]
    client = Client()
    assert _registry.set_main(client) is None
    assert _registry.main() is client
    assert sorted(client.told) == ["+a", "+b"]
    assert set(client.served) == set(kept)


def test_a_setting_made_later_is_handed_over_at_once() -> None:
    client = Client()
    _registry.set_main(client)
    setting = setting_of("a")
    assert client.told == ["+a"]
    assert set(client.served) == {setting}


def test_settings_are_held_weakly() -> None:
    watch = weakref.ref(setting_of("a"))
    gc.collect()
    assert watch() is None
    client = Client()
    _registry.set_main(client)
    assert client.told == []


def test_a_second_main_client_takes_the_settings_over() -> None:
    setting = setting_of("a")
    first, second = Client(), Client()
    _registry.set_main(first)
    assert _registry.set_main(second) is first
    assert first.told == ["+a", "-*"]
    assert set(second.served) == {setting}
    later = setting_of("b")
    assert first.told == ["+a", "-*"]
    assert set(second.served) == {setting, later}


def test_setting_the_same_main_client_again_tells_it_nothing() -> None:
    _kept = setting_of("a")
    client = Client()
    _registry.set_main(client)
    assert _registry.set_main(client) is client
    assert client.told == ["+a"]


def test_a_client_that_cannot_take_the_settings_over_leaves_them_where_they_are() -> None:
    kept = [setting_of("a"), setting_of("b"), setting_of("c")]
    first, second = Client(), Client()
    _registry.set_main(first)
    second.refuses = {"b"}
    with pytest.raises(DuplicateSettingError):
        _registry.set_main(second)
    assert _registry.main() is first
    assert set(first.served) == set(kept)
    assert set(second.served) == set()


def test_a_client_that_could_not_take_the_settings_over_can_be_started_again() -> None:
    mine = setting_of("ttl", 60)
    client = ThreadHeksherClient("http://heksher.invalid", 60, ["user"])
    client.add_settings([mine])
    other = setting_of("ttl", 90)
    for _ in range(2):
        with pytest.raises(DuplicateSettingError, match="'ttl'"):
            client.set_as_main()
        assert client.status.state == "new"
        assert _registry.main() is None
    assert (mine.get(), other.get()) == (60, 90)
    client.close()


def test_the_place_can_be_given_back() -> None:
    setting = setting_of("a")
    first, second = Client(), Client()
    _registry.set_main(first)
    former = _registry.set_main(second)
    _registry.replace_main(second, former)
    assert _registry.main() is first
    assert set(first.served) == {setting}
    assert set(second.served) == set()


def test_the_place_can_be_given_back_to_nobody() -> None:
    _kept = setting_of("a")
    client = Client()
    _registry.set_main(client)
    _registry.replace_main(client, None)
    assert _registry.main() is None
    assert client.told == ["+a", "-*"]


def test_only_who_has_the_place_can_give_it_away() -> None:
    first, second = Client(), Client()
    _registry.set_main(first)
    _registry.replace_main(second, None)
    _registry.step_down(second)
    assert _registry.main() is first
    assert first.told == []


def test_after_the_main_client_has_resigned_new_settings_wait_for_the_next_one() -> None:
    first, second = Client(), Client()
    _registry.set_main(first)
    _registry.step_down(first)
    assert _registry.main() is None
    setting = setting_of("a")
    assert first.told == []
    _registry.set_main(second)
    assert set(second.served) == {setting}


def test_a_setting_of_a_client_of_its_own_is_not_the_main_clients() -> None:
    mine, others = setting_of("mine"), setting_of("others")
    main, own = Client(), Client()
    _registry.set_main(main)
    _registry.move_to(mine, own)
    assert set(main.served) == {others}
    assert "-mine" in main.told
    later = Client()
    _registry.set_main(later)
    assert set(later.served) == {others}


def test_of_two_equal_settings_only_the_withdrawn_one_leaves_the_main_client() -> None:
    mine, others = setting_of("ttl"), setting_of("ttl")
    main, own = Client(), Client()
    _registry.set_main(main)
    _registry.move_to(mine, own)
    assert set(main.served) == {others}
    later = Client()
    _registry.set_main(later)
    assert set(later.served) == {others}


def test_the_main_client_may_keep_a_setting_as_its_own() -> None:
    setting = setting_of("a")
    client = Client()
    _registry.set_main(client)
    _registry.move_to(setting, client)
    assert set(client.served) == {setting}
    assert client.told == ["+a"]


def test_reset_goes_back_to_the_state_of_an_import() -> None:
    old = setting_of("a")
    client = Client()
    _registry.set_main(client)
    _registry.reset()
    assert _registry.main() is None
    assert client.told == ["+a", "-*"]
    # The name is free again for any module.
    again = module_with(
        "elsewhere", "from heksher import Setting\na = Setting('a', str, ['x'], '')"
    )
    fresh = Client()
    _registry.set_main(fresh)
    assert set(fresh.served) == {again.a}
    assert old.get() == 1


def test_names_of_settings_that_are_gone_are_forgotten() -> None:
    kept = [setting_of(f"kept_{number}") for number in range(5)]
    for number in range(1000):
        setting_of(f"gone_{number}")
    gc.collect()
    for number in range(200):  # so that the registry drops dead references
        setting_of(f"more_{number}")
    assert len(_registry._settings) < 500  # pyright: ignore[reportPrivateUsage]
    client = Client()
    _registry.set_main(client)
    assert set(kept) <= set(client.served)


# --- duplicates -----------------------------------------------------------------------------------


def test_equal_settings_of_one_name_are_all_served() -> None:
    client = Client()
    _registry.set_main(client)
    modules = [module_with("one", ONE), module_with("other", ONE)]
    assert set(client.served) == {module.ttl for module in modules}
    assert client.told == ["+ttl", "+ttl"]


@pytest.mark.parametrize(
    ("source", "is_equal"),
    [
        ("Setting('ttl', int, ['user', 'theme'], 60)", True),
        ("Setting('ttl', int, ['theme', 'user'], 60)", True),
        ("Setting('ttl', int, ['theme'], 60)", False),
        ("Setting('ttl', float, ['theme', 'user'], 60)", False),
        ("Setting('ttl', int, ['theme', 'user'], 61)", False),
        ("Setting('ttl', int, ['theme', 'user'], 60, {'k': 1})", False),
        ("Setting('ttl', int, ['theme', 'user'], 60, alias='old')", False),
        ("Setting('ttl', int, ['theme', 'user'], 60, version='1.1')", False),
    ],
    ids=[
        "the same",
        "other order",
        "features",
        "type",
        "default",
        "metadata",
        "alias",
        "version",
    ],
)
def test_settings_are_equal_if_they_declare_the_same(source: str, is_equal: bool) -> None:
    start = "from heksher import Setting\nttl = "
    one = module_with("one", start + "Setting('ttl', int, ['user', 'theme'], 60)")
    if is_equal:
        other = module_with("other", start + source)
        assert _registry.declared_alike(one.ttl, other.ttl)
    else:
        with pytest.raises(DuplicateSettingError):
            module_with("other", start + source)


def test_differing_settings_of_two_modules_are_an_error_that_names_both_places() -> None:
    client = Client()
    _registry.set_main(client)
    one = module_with("one", ONE)
    with pytest.raises(DuplicateSettingError) as caught:
        module_with("other", OTHER)
    assert isinstance(caught.value, InvalidSettingError)
    assert caught.value.name == "ttl"
    for part in ("'ttl'", "/app/one.py:2", "/app/other.py:3"):
        assert part in str(caught.value)
    # The first setting is not affected.
    assert set(client.served) == {one.ttl}
    assert client.told == ["+ttl"]


def test_a_setting_that_nobody_holds_any_more_is_no_duplicate() -> None:
    # A setting and its get refer to each other, so it exists until the garbage collector runs.
    gc.disable()
    try:
        module_with("one", "from heksher import Setting\nSetting('name', int, ['user'], 1)")
        kept = module_with(
            "other", "from heksher import Setting\nsetting = Setting('name', int, ['user'], 2)"
        )
    finally:
        gc.enable()
    assert kept.setting.get(user="jim") == 2


def test_a_differing_setting_of_the_same_module_takes_the_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client()
    _registry.set_main(client)
    module = module_with("one", ONE)
    first = module.ttl
    with caplog.at_level(logging.WARNING, "heksher._registry"):
        run_in(module, compile(OTHER, "/app/one.py", "exec"))
    assert module.ttl is not first
    assert set(client.served) == {module.ttl}
    assert client.told == ["+ttl", "-ttl", "+ttl"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for part in ("'ttl'", "/app/one.py:3", "/app/one.py:2"):
        assert part in record.getMessage()
    # This is final: the next main client gets only the newer one.
    later = Client()
    _registry.set_main(later)
    assert set(later.served) == {module.ttl}
    assert first.get() == 60


def test_running_the_same_module_again_is_no_matter_to_warn_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = module_with("one", ONE)
    first = module.ttl
    with caplog.at_level(logging.DEBUG, "heksher"):
        run_in(module, compile(ONE, "/app/one.py", "exec"))
    assert caplog.records == []
    client = Client()
    _registry.set_main(client)
    assert set(client.served) == {first, module.ttl}


FACTORY = (
    "from heksher import Setting\n"
    "def flag(default):\n    return Setting('ttl', int, ['user'], default)\n"
)


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module with a function that makes settings, and have it imported by that name."""
    module = module_with("flags", FACTORY)
    monkeypatch.setitem(sys.modules, "flags", module)
    return module


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize(
    "body",
    [
        "ttl = flag({})",
        "class Settings:\n    ttl = flag({})",
        "from functools import partial\nttl = partial(flag, {})()",
        "(ttl,) = map(flag, [{}])",
        "def make():\n    return flag({})\nttl = make()",
    ],
    ids=["module", "class", "partial", "map", "nested"],
)
def test_differing_settings_that_one_function_makes_for_two_modules_are_an_error(
    body: str,
) -> None:
    client = Client()
    _registry.set_main(client)
    start = "from flags import flag\n"
    one = module_with("one", start + body.format(60))
    with pytest.raises(DuplicateSettingError) as caught:
        module_with("other", start + body.format(90))
    for part in ("'ttl'", "/app/flags.py:3", "/app/one.py:", "/app/other.py:"):
        assert part in str(caught.value)
    assert set(client.served) == {one.ttl if hasattr(one, "ttl") else one.Settings.ttl}
    assert client.told == ["+ttl"], "the first one is served as before"
    equal = module_with("equal", start + body.format(60))
    assert client.told == ["+ttl", "+ttl"]
    del equal


@pytest.mark.usefixtures("flags")
def test_a_module_that_is_run_again_replaces_what_a_function_made_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Client()
    _registry.set_main(client)
    one = module_with("one", "from flags import flag\nttl = flag(60)")
    run_in(one, compile("from flags import flag\n\nttl = flag(90)", "/app/one.py", "exec"))
    assert set(client.served) == {one.ttl}
    (record,) = caplog.records
    for part in ("/app/flags.py:3 (called at /app/one.py:2)", "(called at /app/one.py:3)"):
        assert part in record.getMessage()


def test_functions_of_two_modules_that_a_third_calls_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("orders", "users"):
        monkeypatch.setitem(sys.modules, name, module_with(name, FACTORY))
    with pytest.raises(DuplicateSettingError):
        module_with("wsgi", "import orders, users\nkept = orders.flag(1)\nlost = users.flag(2)\n")


@pytest.mark.parametrize(
    "enumeration",
    ["Enum('Color', {'RED': 'red'})", "IntFlag('Color', ['RED'])"],
    ids=["Enum", "IntFlag"],
)
@pytest.mark.parametrize("again", ["__main__", "one"], ids=["by another name", "reloaded"])
def test_a_module_with_an_enumeration_may_be_loaded_twice(
    enumeration: str, again: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client()
    _registry.set_main(client)
    source = (
        "from enum import Enum, IntFlag\nfrom heksher import Setting\n"
        f"Color = {enumeration}\ncolor = Setting('color', Color, ['user'], Color.RED)\n"
    )
    first, second = module_with("one", source), module_with(again, source)
    assert set(client.served) == {first.color, second.color}
    assert caplog.records == []
    assert type(first.color.get()) is first.Color
    assert type(second.color.get()) is second.Color


def test_an_unusable_setting_is_not_registered() -> None:
    client = Client()
    _registry.set_main(client)
    wrong: Any = "60"
    with pytest.raises(InvalidSettingError):
        Setting("ttl", int, ["user"], wrong)
    assert client.told == []
    setting = module_with("other", OTHER).ttl
    assert set(client.served) == {setting}


# --- aliases --------------------------------------------------------------------------------------


def test_a_name_and_its_alias_in_one_application_are_refused_and_both_places_named() -> None:
    old = Setting("old", int, ["user"], 60)
    with pytest.raises(InvalidSettingError, match=r"'new'.*'old'.*alias") as raised:
        Setting("new", int, ["user"], 60, alias="old")
    assert str(raised.value).count(__file__) == 2
    del old, raised  # the traceback refers to it as well
    Setting("new", int, ["user"], 60, alias="old")


def test_it_is_refused_in_the_other_order_as_well() -> None:
    new = Setting("new", int, ["user"], 60, alias="old")
    with pytest.raises(InvalidSettingError, match="are the same to the service"):
        Setting("old", int, ["user"], 60)
    assert new.alias == "old"


def test_two_settings_cannot_have_one_alias_but_equal_ones_can() -> None:
    one = Setting("one", int, ["user"], 60, alias="old")
    same = Setting("one", int, ["user"], 60, alias="old")
    with pytest.raises(InvalidSettingError, match="'old' is the alias"):
        Setting("two", int, ["user"], 60, alias="old")
    assert one.name == same.name


def test_an_alias_is_free_again_when_its_setting_is_gone() -> None:
    Setting("one", int, ["user"], 60, alias="old")
    gc.collect()
    two = Setting("two", int, ["user"], 60, alias="old")
    old = Setting("one", int, ["user"], 60)
    assert (two.alias, old.alias) == ("old", None)


def test_a_refused_setting_leaves_nothing_behind() -> None:
    old = Setting("old", int, ["user"], 60)
    with pytest.raises(InvalidSettingError):
        Setting("new", int, ["user"], 60, alias="old")
    client = Client()
    _registry.set_main(client)
    assert client.told == ["+old"]
    other = Setting("other", int, ["user"], 60, alias="new")
    assert client.told == ["+old", "+other"]
    assert (old.alias, other.alias) == (None, "new")


# --- all or nothing -------------------------------------------------------------------------------


class Picky(Client):
    """A client that has a setting of this name, and so refuses a different one."""

    def attach(self, settings: Iterable[Setting[Any]]) -> None:
        settings = list(settings)
        for setting in settings:
            if setting.default_value == 90:
                raise DuplicateSettingError("served already, differently", setting.name)
        super().attach(settings)


def test_a_setting_that_the_main_client_refuses_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Picky()
    _registry.set_main(client)
    module = module_with("one", ONE)
    first = module.ttl
    with pytest.raises(DuplicateSettingError):
        run_in(module, compile(OTHER.replace("90", "90, alias='old'"), "/app/one.py", "exec"))
    assert set(client.served) == {first}
    assert caplog.records == []
    # The registry does not hand the refused setting to the next client either.
    later = Client()
    _registry.set_main(later)
    assert set(later.served) == {first}
    old = setting_of("old")
    assert set(later.served) == {first, old}


def test_a_client_that_fails_in_any_way_to_take_the_settings_over_is_left_with_none() -> None:
    class Failing(Client):
        def attach(self, settings: Iterable[Setting[Any]]) -> None:
            super().attach(settings)
            raise KeyboardInterrupt

    setting = setting_of("a")
    first, second = Client(), Failing()
    _registry.set_main(first)
    with pytest.raises(KeyboardInterrupt):
        _registry.set_main(second)
    assert _registry.main() is first
    assert (set(first.served), set(second.served)) == ({setting}, set())
