"""The options of ``heksher serve``: flags, variables, precedence, and refused values."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from heksher.cli import _options


def _read(*flags: str, **environment: str) -> tuple[dict[str, Any], list[str]]:
    """Return the values and the names of used variables."""
    parser = argparse.ArgumentParser()
    _options.add_options(parser)
    found, variables = _options.values(parser, parser.parse_args(flags), environment)
    return found, list(variables)


def test_defaults() -> None:
    found, variables = _read()
    assert variables == []
    assert found["host"] == "127.0.0.1"
    assert found["port"] == 8000
    assert found["database"] == "memory"
    assert found["body_limit"] == 1024 * 1024
    assert found["api_token"] == found["api_token_file"] == found["features"] == ()
    assert found["migrate"] is found["access_log"] is False


# By flag: two texts, their values, and an invalid text.
_VALUES: Mapping[str, tuple[str, Any, str, Any, str | None]] = {
    "--host": ("::1", "::1", "0.0.0.0", "0.0.0.0", None),
    "--port": ("0", 0, "65535", 65535, "65536"),
    "--database": ("a.db", "a.db", "b.db", "b.db", None),
    "--features": ("a,b", ("a", "b"), "c", ("c",), None),
    "--api-token": ("a", ("a",), "é b", ("é b",), "\x07"),
    "--allowed-host": ("a", ("a",), "b,c", ("b", "c"), None),
    "--body-limit": ("1", 1, "5000", 5000, "0"),
    "--shutdown-timeout": ("1", 1, "30", 30, "1.5"),
    "--log-level": ("DEBUG", "debug", "error", "error", "loud"),
}


@pytest.mark.parametrize("flag", _VALUES)
def test_a_flag_counts_more_than_its_variable(flag: str) -> None:
    first, first_value, second, second_value, _ = _VALUES[flag]
    name = flag.removeprefix("--").replace("-", "_")
    variable = f"HEKSHER_{name.upper()}"
    assert _read(f"{flag}={first}")[0][name] == first_value
    found, variables = _read(**{variable: second})
    assert (found[name], variables) == (second_value, [variable])
    found, variables = _read(f"{flag}={first}", **{variable: second})
    assert (found[name], variables) == (first_value, [])


@pytest.mark.parametrize("flag", ["--migrate", "--access-log"])
def test_a_switch(flag: str) -> None:
    name = flag.removeprefix("--").replace("-", "_")
    variable = f"HEKSHER_{name.upper()}"
    for text in ("1", "true", "Yes", "ON"):
        assert _read(**{variable: text})[0][name] is True
        assert _read(flag.replace("--", "--no-"), **{variable: text})[0][name] is False
    for text in ("0", "False", "no", "off", ""):
        assert _read(**{variable: text})[0][name] is False
        assert _read(flag, **{variable: text})[0][name] is True


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *(
            (f"HEKSHER_{flag.removeprefix('--').replace('-', '_').upper()}", row[4])
            for flag, row in _VALUES.items()
            if row[4] is not None
        ),
        ("HEKSHER_MIGRATE", "maybe"),
        ("HEKSHER_API_TOKEN_FILE", "/nowhere/at/all"),
        ("HEKSHER_API_TOKEN_FILE", "nul\0"),
        ("HEKSHER_PORT", "²"),
        ("HEKSHER_PORT", "9" * 5000),
        # An empty token is an error.
        ("HEKSHER_API_TOKEN", ""),
        ("HEKSHER_API_TOKEN", " \n"),
        ("HEKSHER_API_TOKEN_FILE", ""),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    variable: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        _read(**{variable: text})
    assert caught.value.code == 2
    assert f"the environment variable {variable}: " in capsys.readouterr().err


def test_an_empty_variable_is_as_good_as_none() -> None:
    names = [option.variable for option in _options.OPTIONS if not option.many]
    assert _read(**dict.fromkeys(names, "")) == _read()


def test_tokens_come_from_everywhere(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(b"\n one \r\n\ntw\xc3\xb6\n\xff\n")
    from_file = ("one", "twö", "\udcff")
    assert _read("--api-token-file", str(file))[0]["api_token_file"] == from_file
    assert _read(HEKSHER_API_TOKEN_FILE=str(file))[0]["api_token_file"] == from_file
    found, _ = _read("--api-token=a", "--api-token", "b", "--api-token-file", str(file))
    assert (found["api_token"], found["api_token_file"]) == (("a", "b"), from_file)
    assert _read(HEKSHER_API_TOKEN="a\nb c\n")[0]["api_token"] == ("a", "b c")


def test_a_file_without_tokens_is_no_way_to_need_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tokens"
    file.write_text("\n \n")
    with pytest.raises(SystemExit):
        _read("--api-token-file", str(file))
    assert f"{file}: empty token: expected at least one character" in capsys.readouterr().err


def test_no_error_shows_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tokens"
    file.write_text("CANARY\x07")
    for flags, environment in (
        (["--api-token=CANARY\x07"], {}),
        (["--api-token-file", str(file)], {}),
        ([], {"HEKSHER_API_TOKEN": "CANARY\x07"}),
        ([], {"HEKSHER_API_TOKEN": "CANARY", "HEKSHER_PORT": "x"}),
    ):
        with pytest.raises(SystemExit):
            _read(*flags, **environment)
        assert "CANARY" not in "".join(capsys.readouterr())
