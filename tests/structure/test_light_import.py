"""An application that only defines settings imports neither an HTTP client nor an event loop."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPORT = """
import json, sys
before = set(sys.modules)
{code}
print(json.dumps(sorted(set(sys.modules) - before)))
"""

HEAVY = {
    "anyio",
    "asyncio",
    "concurrent",
    "http",
    "httpcore",
    "httpx",
    "multiprocessing",
    "socket",
    "sqlalchemy",
    "ssl",
    "starlette",
    "trio",
    "unittest",
    "uvicorn",
}


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", REPORT.format(code=code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return set(json.loads(done.stdout))


def roots(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import heksher", id="import"),
        pytest.param("import heksher; dir(heksher)", id="dir"),
        pytest.param(
            "from heksher import Setting, TRACK_ALL, SettingType\n"
            "ttl = Setting('ttl', int, ['user'], 60, {'k': 1}, 'old', '1.1')\n"
            "assert ttl.get(user='jim') == ttl.get() == 60",
            id="a setting and its get",
        ),
        pytest.param(
            "from heksher import Setting\n"
            "ttl = Setting('ttl', int, ['user'], 60)\n"
            "try:\n    ttl.get(usr='jim')\nexcept TypeError:\n    pass",
            id="an error",
        ),
        pytest.param(
            "from heksher import Rule, Setting, override\n"
            "ttl = Setting('ttl', int, ['user'], 60)\n"
            "with override({ttl: [Rule({'user': 'jim'}, 5)]}):\n"
            "    assert ttl.get(user='jim') == 5",
            id="an override",
        ),
    ],
)
def test_settings_load_neither_an_http_client_nor_an_event_loop(code: str) -> None:
    loaded = loaded_by(code)
    assert "heksher.setting" in loaded
    assert roots(loaded) & HEAVY == set()
    assert not {"heksher._client.core", "heksher.clients", "heksher.backends"} & loaded


def test_the_measure_sees_what_is_loaded() -> None:
    loaded = loaded_by("import heksher; heksher.AsyncHeksherClient; import asyncio, httpx")
    assert {"asyncio", "httpx", "heksher._client.core"} <= loaded


def test_a_client_of_threads_loads_no_event_loop_library() -> None:
    loaded = loaded_by(
        "import heksher; heksher.ThreadHeksherClient('http://heksher', 60, ['user'])"
    )
    assert not {"anyio", "gevent", "httpx", "trio", "unittest"} & roots(loaded)


@pytest.mark.parametrize(
    "start",
    [
        "with heksher.ThreadHeksherClient(url, 60, ['user']) as client:\n"
        "    client.ping()\n    client.reload()",
        "async def main():\n"
        "    async with heksher.AsyncHeksherClient(url, 60, ['user']) as client:\n"
        "        await client.ping()\n        await client.reload()\n"
        "import asyncio; asyncio.run(main())",
    ],
    ids=["thread", "asyncio"],
)
def test_a_client_of_a_file_loads_no_http_client(start: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("ttl = 5")
    loaded = loaded_by(
        f"import heksher; url = {path.as_uri()!r}\n"
        "ttl = heksher.Setting('ttl', int, ['user'], 60)\n"
        f"{start}\nassert ttl.get(user='jim') == 5"
    )
    assert not {"httpx", "httpcore"} & roots(loaded)


def test_stubs_load_no_client_no_http_client_and_no_trio() -> None:
    loaded = loaded_by("import heksher.testing; from heksher.clients.stub import Rule")
    assert "heksher.clients.stub" in loaded
    assert not {"anyio", "httpx", "trio"} & roots(loaded)
    assert not {"heksher._client.core", "heksher.backends"} & loaded
