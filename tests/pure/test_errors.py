"""The errors: their base classes, their attributes, and that they can be pickled."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from heksher import exceptions
from heksher.exceptions import (
    BackendError,
    ClientClosedError,
    ClientNotStartedError,
    ContradictingArgumentError,
    DeclarationRejected,
    DuplicateSettingError,
    FeatureTypeError,
    HeksherError,
    InvalidArgumentError,
    InvalidDefaultError,
    InvalidResponseError,
    InvalidSettingError,
    MissingFeatureError,
    NoMatchError,
    ServiceError,
    ServiceUnreachableError,
    StartupTimeoutError,
    UnexpectedStatusError,
    UnknownFeatureError,
    UnsupportedTypeError,
    WrongEventLoopError,
)

ERRORS: list[tuple[HeksherError, list[type[BaseException]]]] = [
    (HeksherError("m"), []),
    (InvalidArgumentError("m"), [ValueError]),
    (ContradictingArgumentError("m"), [InvalidArgumentError, RuntimeError]),
    (InvalidSettingError("m"), [InvalidArgumentError]),
    (InvalidDefaultError("m"), [InvalidSettingError, TypeError]),
    (UnsupportedTypeError("m"), [InvalidSettingError, TypeError, RuntimeError]),
    (DuplicateSettingError("m", "cache_ttl"), [InvalidSettingError]),
    (UnknownFeatureError("cache_ttl", ["usr"], ["user", "theme"]), [TypeError, ValueError]),
    (MissingFeatureError("cache_ttl", "user"), [RuntimeError]),
    (FeatureTypeError("cache_ttl", "user", "int"), [TypeError]),
    (BackendError("m"), [RuntimeError]),
    (WrongEventLoopError("m"), [BackendError]),
    (ClientNotStartedError("m"), [RuntimeError]),
    (ClientClosedError("m"), [RuntimeError]),
    (NoMatchError("m"), []),
    (ServiceError("m"), []),
    (ServiceUnreachableError("m"), [ServiceError]),
    (UnexpectedStatusError("m", 503, 7.0), [ServiceError]),
    (InvalidResponseError("m"), [ServiceError]),
    (DeclarationRejected({"a": "why", "b": "because"}), [ServiceError]),
    (StartupTimeoutError("m"), [ServiceError, TimeoutError]),
]

each_error = pytest.mark.parametrize(
    "error", [error for error, _ in ERRORS], ids=lambda error: type(error).__name__
)


def test_no_error_of_the_module_is_forgotten_here() -> None:
    classes = {
        each
        for each in vars(exceptions).values()
        if inspect.isclass(each) and issubclass(each, BaseException)
    }
    assert classes == {type(error) for error, _ in ERRORS}


@pytest.mark.parametrize(
    ("error", "bases"), ERRORS, ids=[type(error).__name__ for error, _ in ERRORS]
)
def test_the_family_has_one_root_and_familiar_relatives(
    error: HeksherError, bases: list[type[BaseException]]
) -> None:
    assert isinstance(error, HeksherError)
    assert [base for base in bases if not isinstance(error, base)] == []


@each_error
def test_a_pickled_error_comes_back_whole(error: HeksherError) -> None:
    error.add_note("seen in a worker")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))


@each_error
def test_a_copied_error_is_whole(error: HeksherError) -> None:
    for back in (copy.copy(error), copy.deepcopy(error)):
        assert type(back) is type(error)
        assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))


def test_an_unknown_feature_is_told_with_those_there_are() -> None:
    error = UnknownFeatureError("cache_ttl", ["usr", "thme"], ["user", "theme"])
    assert (error.setting, error.unknown, error.features) == (
        "cache_ttl",
        ("usr", "thme"),
        ("user", "theme"),
    )
    for part in ("'cache_ttl'", "'usr' or 'thme'", "user= and theme="):
        assert part in str(error)


def test_a_missing_feature_is_told_with_the_mend() -> None:
    error = MissingFeatureError("cache_ttl", "user")
    assert (error.setting, error.feature) == ("cache_ttl", "user")
    for part in ("'cache_ttl'", "'user'", "get(user=...)", "set_defaults(user=...)"):
        assert part in str(error)


def test_a_value_of_another_type_is_told_with_what_to_write() -> None:
    error = FeatureTypeError("cache_ttl", "user", "int")
    assert (error.setting, error.feature, error.type_name) == ("cache_ttl", "user", "int")
    for part in ("'cache_ttl'", "'user'", "type int", "a string", "user=str(...)", "None"):
        assert part in str(error)


@pytest.mark.parametrize(
    ("feature", "argument", "converted"),
    [
        ("user", "user=...", "user=str(...)"),
        ("class", "**{'class': ...}", "**{'class': str(...)}"),
        ("1a", "**{'1a': ...}", "**{'1a': str(...)}"),
    ],
)
def test_the_advice_is_valid_python_whatever_the_feature_is_called(
    feature: str, argument: str, converted: str
) -> None:
    missing = str(MissingFeatureError("s", feature))
    assert f"get({argument})" in missing
    assert f"set_defaults({argument})" in missing
    assert f"such as {converted}, or None" in str(FeatureTypeError("s", feature, "int"))


def test_rejected_declarations_are_told_one_by_one() -> None:
    why = {"a": "too old", "b": "too new"}
    error = DeclarationRejected(why)
    assert error.rejections == {"a": "too old", "b": "too new"}
    assert str(error).splitlines() == ["setting 'a': too old", "setting 'b': too new"]
    why.clear()
    assert len(error.rejections) == 2


def test_an_error_about_many_settings_names_the_first_ones() -> None:
    why = {f"s{number}": "because" for number in range(25)}
    error = DeclarationRejected(why)
    assert str(error).splitlines()[19:] == [
        "setting 's19': because",
        "and 5 more: see the attribute `rejections`",
    ]
    assert error.rejections == why
