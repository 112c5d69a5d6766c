"""The arguments that the constructors of clients accept and refuse. Nothing is started or connected."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import httpx
import pytest

from heksher import AsyncHeksherClient, ThreadHeksherClient
from heksher.backends import HttpOptions
from heksher.exceptions import HeksherError, InvalidArgumentError

URL = "http://heksher:8000"
Client = type[AsyncHeksherClient] | type[ThreadHeksherClient]

on_both = pytest.mark.parametrize(
    "client", [AsyncHeksherClient, ThreadHeksherClient], ids=lambda each: each.__name__
)


def http_options(client: AsyncHeksherClient | ThreadHeksherClient) -> HttpOptions:
    return client._core.options.http  # pyright: ignore[reportPrivateUsage]


# --- the service's URL ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        ("http://heksher", "http://heksher/"),
        ("http://heksher/", "http://heksher/"),
        ("https://heksher.example:8443/base/path", "https://heksher.example:8443/base/path/"),
        ("http://heksher/base//", "http://heksher/base/"),
        ("HTTP://HEKSHER:80/Base", "http://heksher:80/Base/"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/"),
        ("http://[::1]:8000/base", "http://[::1]:8000/base/"),
        ("http://[::1]", "http://[::1]/"),
    ],
)
@on_both
def test_an_address_is_kept_with_a_slash_at_its_end(
    client: Client, url: str, base_url: str
) -> None:
    options = http_options(client(url, 60, ["user"]))
    assert (options.base_url, options.auth) == (base_url, None)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "heksher",
        "heksher:8000",
        "//heksher",
        "/api",
        "ftp://heksher",
        "files:///etc/passwd",
        "http://",
        "http:///path",
        "http://:8000",
        "http:heksher",
        "http://heksher:port",
        "http://heksher:99999",
        "http://heksher:-1",
        "http://[::1",
        "http://heksher service",
        "http://heksher?x=1",
        "http://heksher/#part",
    ],
    ids=repr,
)
@on_both
def test_what_is_no_http_url_is_refused_and_shown(client: Client, url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected http://HOST:PORT or https://HOST"):
        client(url, 60, ["user"])


def test_an_url_that_cannot_be_used_is_shown() -> None:
    with pytest.raises(InvalidArgumentError, match="'ftp://heksher'"):
        ThreadHeksherClient("ftp://heksher", 60, ["user"])
    with pytest.raises(InvalidArgumentError, match="0-65535"):
        ThreadHeksherClient("http://heksher:99999", 60, ["user"])


@pytest.mark.parametrize("part", ["?token=hunter2", "#hunter2", "/base?x#hunter2"])
@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_a_query_of_an_url_that_cannot_be_used_is_not_shown(scheme: str, part: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"'{scheme}://heksher[^?]*'") as caught:
        ThreadHeksherClient(f"{scheme}://heksher{part}", 60, ["user"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "auth"),
    [
        ("https://jim:hunter2@heksher/base", ("jim", "hunter2")),
        ("https://jim@heksher/base", ("jim", "")),
        ("https://:hunter2@heksher/base", ("", "hunter2")),
        ("https://j%40m:hunter2%2F%3A%40@heksher/base", ("j@m", "hunter2/:@")),
        ("https://jim:hunter2@x@heksher/base", ("jim", "hunter2@x")),
    ],
)
@on_both
def test_credentials_are_taken_out_of_the_address_and_never_shown(
    client: Client, url: str, auth: tuple[str, str]
) -> None:
    made = client(url, 60, ["user"], http_client_args={"headers": {"x-token": "hunter2"}})
    options = http_options(made)
    assert (options.base_url, options.auth) == ("https://heksher/base/", auth)
    for shown in (repr(made), str(made), repr(made.status), repr(options), str(options)):
        assert "hunter2" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "ftp://jim:hunter2@heksher",
        "jim:hunter2@heksher",
        "//jim:hunter2@heksher",
        "http://jim:hunter2@",
        "http://jim:hunter2@:80",
        "http://jim:hunter2@heksher:port",
        "http://jim:hunter2@heksher:99999",
        "http://jim:hunter2@heksher?x=1",
        "http://jim:hunter2@heksher/#x",
        "http://jim:hunter2@[heksher",
        "http://jim:hunter2\u2100@heksher",
        # Passwords that are not percent-encoded: the part before the mark looks like a port.
        "http://jim:hunter2/x@heksher",
        "http://jim:hunter2?x@heksher",
        "http://jim:hunter2#x@heksher",
        "http://jim:80/hunter2@heksher",
        "http://jim:80?hunter2@heksher",
        "http://jim:80#hunter2@heksher",
        b"http://jim:hunter2@heksher",
        ["http://jim:hunter2@heksher"],
        None,
    ],
    ids=ascii,
)
@on_both
def test_an_address_that_cannot_be_used_gives_no_password_away(client: Client, url: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        client(url, 60, ["user"])
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in str(error)
        error = None if error.__suppress_context__ else error.__context__


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///etc/shop/settings.toml", "/etc/shop/settings.toml"),
        ("file://localhost/etc/settings.toml", "/etc/settings.toml"),
        ("FILE:///etc/a%20b%3F%23%25.toml", "/etc/a b?#%.toml"),
        ("file:/etc/settings.toml", "/etc/settings.toml"),
        ("file:///etc/%FF.toml", "/etc/\udcff.toml"),
        ("file:///etc/büro.toml", "/etc/büro.toml"),
        ("file:///etc/jim@home.toml", "/etc/jim@home.toml"),
    ],
)
@on_both
def test_the_url_of_a_file_leads_to_its_path(client: Client, url: str, path: str) -> None:
    options = client(url, 60, ["user"])._core.options  # pyright: ignore[reportPrivateUsage]
    assert options.file == path
    assert options.http.base_url == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("file://fileserver/settings.toml", "it names a host"),
        ("file://jim:hunter2@localhost/settings.toml", "it names a host"),
        ("file://settings.toml", "it names a host"),
        ("file:settings.toml", "its path is relative"),
        ("file:", "its path is relative"),
        ("file://", "its path is relative"),
        ("file:///a.toml?b", "it has a query or a fragment: write %3F for ? and %23 for #"),
        ("file:///a.toml#b", "it has a query or a fragment: write %3F for ? and %23 for #"),
        ("file:///a%00.toml", "it has a character that no path has"),
        ("file:///a\n.toml", "or that cannot be printed"),
        ("file://[a/b.toml", "cannot be parsed"),
    ],
)
@on_both
def test_the_url_of_a_file_that_cannot_be_used_is_refused(
    client: Client, url: str, problem: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        client(url, 60, ["user"])
    assert problem in str(caught.value)
    assert "expected file:///PATH, percent-encoded" in str(caught.value)
    assert "hunter2" not in str(caught.value)


FOR_NO_FILE: list[dict[str, Any]] = [
    {"http_client": lambda: None},
    {"http_client_args": {"headers": {"x-token": "hunter2"}}},
    {"snapshot": "rules"},
]


@pytest.mark.parametrize("arguments", FOR_NO_FILE, ids=lambda each: next(iter(each)))
@on_both
def test_arguments_for_services_make_no_sense_with_a_file(
    client: Client, arguments: dict[str, Any]
) -> None:
    (name,) = arguments
    with pytest.raises(InvalidArgumentError) as caught:
        client("file:///settings.toml", 60, ["user"], **arguments)
    assert str(caught.value) == f"{name} makes no sense where service_url is a file: leave it out"
    client("file:///settings.toml", 60, ["user"], http_client_args={})


# --- numbers --------------------------------------------------------------------------------------

NO_SECONDS: list[Any] = [0, 0.0, -1, -0.5, math.nan, math.inf, -math.inf, "5", True, [5], 1j]


@pytest.mark.parametrize("name", ["update_interval", "startup_timeout", "request_timeout"])
@pytest.mark.parametrize("value", NO_SECONDS, ids=repr)
@on_both
def test_seconds_are_a_positive_finite_number(client: Client, name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"update_interval": 60, name: value}
    with pytest.raises(InvalidArgumentError) as caught:
        client(URL, context_features=["user"], **arguments)
    assert isinstance(caught.value, ValueError)
    assert f"{name}={value!r}" in str(caught.value)
    assert "above 0" in str(caught.value)


@pytest.mark.parametrize("name", ["update_interval", "request_timeout"])
@on_both
def test_only_the_timeout_of_a_start_may_be_none(client: Client, name: str) -> None:
    arguments: dict[str, Any] = {"update_interval": 60, name: None}
    with pytest.raises(InvalidArgumentError, match=f"{name}=None"):
        client(URL, context_features=["user"], **arguments)
    client(URL, 60, ["user"], startup_timeout=None)


@pytest.mark.parametrize(("options", "seconds"), [({}, 5), ({"startup": "raise"}, 30)], ids=str)
@on_both
def test_a_start_that_keeps_trying_is_bounded_more_tightly(
    client: Client, options: dict[str, Any], seconds: float
) -> None:
    made = client(URL, 60, ["user"], **options)
    assert made._core.options.startup_timeout == seconds  # pyright: ignore[reportPrivateUsage]


def test_seconds_beyond_all_floats_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="update_interval"):
        ThreadHeksherClient(URL, 10**400, ["user"])


@pytest.mark.parametrize("value", [0, -1, 1.5, "1", True, None], ids=repr)
@on_both
def test_the_bound_of_an_answer_is_a_positive_integer(client: Client, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"max_response_bytes=.*above 0"):
        client(URL, 60, ["user"], max_response_bytes=value)


# --- features -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "parts"),
    [
        ("user", ["'user'", "['user']"]),
        (None, ["None"]),
        (["user", 5], ["5", "string"]),
        (["user", "user"], ["'user'", "twice"]),
        (["user name"], ["'user name'"]),
    ],
    ids=repr,
)
@on_both
def test_features_are_a_list_of_names(client: Client, features: Any, parts: list[str]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        client(URL, 60, features)
    for part in parts:
        assert part in str(caught.value)


# --- the rest -------------------------------------------------------------------------------------


@pytest.mark.parametrize("startup", ["Raise", "ignore", "", None, True, ["raise"]], ids=repr)
@on_both
def test_startup_is_one_of_two_words(client: Client, startup: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        client(URL, 60, ["user"], startup=startup)
    for part in (repr(startup), '"raise"', '"continue"'):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["snapshot", "overrides"])
@pytest.mark.parametrize(
    "path", [b"rules", "", 5, True, "a\0b", ["rules"], "file:///rules"], ids=repr
)
@on_both
def test_a_file_is_named_by_its_path(client: Client, path: Any, name: str) -> None:
    arguments: dict[str, Any] = {name: path}
    with pytest.raises(InvalidArgumentError) as caught:
        client(URL, 60, ["user"], **arguments)
    assert str(caught.value) == f"invalid {name}={path!r}: expected the path of a file, or None"


@on_both
def test_a_relative_path_from_a_folder_that_is_gone_is_refused(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(InvalidArgumentError, match="give an absolute path"):
        client(URL, 60, ["user"], snapshot="rules")
    assert client(URL, 60, ["user"], snapshot=tmp_path / "rules").status.snapshot is not None


@on_both
def test_a_snapshot_stays_where_it_was_when_the_process_goes_elsewhere(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ("rules", Path("rules"), tmp_path / "x" / ".." / "rules"):
        snapshot = client(URL, 60, ["user"], snapshot=given).status.snapshot
        assert snapshot is not None
        assert snapshot.path == str(tmp_path / "rules")
    assert client(URL, 60, ["user"]).status.snapshot is None


@on_both
def test_a_ready_http_client_takes_no_arguments(client: Client) -> None:
    with httpx.Client() as ready, pytest.raises(InvalidArgumentError, match="one of the two"):
        client(URL, 60, ["user"], http_client=ready, http_client_args={"verify": False})


@on_both
def test_a_ready_http_client_may_come_with_empty_arguments(client: Client) -> None:
    with httpx.Client() as ready:
        made = client(URL, 60, ["user"], http_client=ready, http_client_args={})
        assert http_options(made).client is ready


NO_ARGUMENTS: list[Any] = [5, "hunter2", ["hunter2"], [("headers", {})]]


@pytest.mark.parametrize("given", NO_ARGUMENTS, ids=repr)
@on_both
def test_arguments_of_the_http_client_are_a_mapping(client: Client, given: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"http_client_args.*mapping") as caught:
        client(URL, 60, ["user"], http_client_args=given)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("given", [5, "hunter2", {"headers": {}}, False], ids=repr)
@on_both
def test_an_http_client_is_a_client_or_makes_one(client: Client, given: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"http_client is .*callable") as caught:
        client(URL, 60, ["user"], http_client=given)
    assert "hunter2" not in str(caught.value)


@on_both
def test_an_unknown_argument_is_pythons_own_error(client: Client) -> None:
    arguments: dict[str, Any] = {"intervall": 60}
    with pytest.raises(TypeError, match="intervall") as caught:
        client(URL, 60, ["user"], **arguments)
    assert not isinstance(caught.value, HeksherError)


@on_both
def test_the_callers_arguments_may_change_afterwards(client: Client) -> None:
    features = ["user"]
    arguments: dict[str, dict[str, str]] = {"headers": {}}
    made = client(URL, 60, features, http_client_args=arguments)
    features.append("theme")
    arguments.clear()
    assert http_options(made).client_args == {"headers": {}}
    assert made._core.options.context_features == ("user",)  # pyright: ignore[reportPrivateUsage]


@on_both
def test_a_new_client_says_that_it_is_new(client: Client) -> None:
    made = client(URL, 60, ["user"])
    assert repr(made) == f"<{client.__name__}: new, never updated>"
