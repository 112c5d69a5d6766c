"""The OpenAPI document describes exactly what the service does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from msgspec import structs
from support.service_process import DEADLINE, ServiceProcess
from transcript_replay import AS_JSON, Answer, Request, call, replay_on_sqlite, scenarios

from heksher.service import create_app
from heksher.service.storage import MEMORY, open_storage
from heksher.service.web import bodies
from heksher.service.web.http import responses
from heksher.service.web.openapi import OPERATIONS, document
from heksher.service.web.routes import routes

with closing(open_storage(MEMORY)) as _storage:
    _ANSWERS = responses(routes(_storage, "1.0"))
_DOCUMENT = document("1.0", _ANSWERS)

# Literal paths that could also be the parameter of another path, and which one.
_AS_PARAMETERS = {
    "GET /api/v1/settings/declare": "GET /api/v1/settings/{name}",
    "DELETE /api/v1/settings/declare": "DELETE /api/v1/settings/{name}",
    "PATCH /api/v1/rules/search": "PATCH /api/v1/rules/{id}",
    "DELETE /api/v1/rules/search": "DELETE /api/v1/rules/{id}",
}


@cache
def _validator(operation: str, status: int) -> Any:
    """Return the schema of JSON bodies that an operation may answer with this status."""
    from openapi_schema_validator import OAS31Validator

    schema = _responses(operation)[str(status)]["content"]["application/json"]["schema"]
    return OAS31Validator({**schema, "components": _DOCUMENT["components"]})


def _responses(operation: str) -> dict[str, Any]:
    method, _, path = operation.partition(" ")
    found: dict[str, Any] = _DOCUMENT["paths"][path][method.lower()]["responses"]
    return found


@pytest.mark.parametrize("with_token", [False, True])
def test_it_is_valid(with_token: bool) -> None:
    from openapi_spec_validator import validate

    validate(document("1.0", _ANSWERS, root_path="/settings", with_token=with_token))


def test_it_has_every_route_and_no_other() -> None:
    """List the methods of a path, as given in the 405 for another method."""
    paths = {operation.partition(" ")[2] for operation in OPERATIONS}
    found: set[str] = set()

    async def ask() -> None:
        app = create_app()
        async with app.router.lifespan_context(app):
            for path in paths | {operation.partition(" ")[2] for operation in _AS_PARAMETERS}:
                answer = await call(app, Request("TRACE", path, None, [], b""))
                assert answer.status == 405
                found.update(f"{method} {path}" for method in answer.headers["allow"].split(", "))
        served = {getattr(route, "path") for route in app.routes}  # noqa: B009 - any kind of response
        pages = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/docs/files/{name}"}
        assert served == paths | pages

    asyncio.run(ask())
    assert found == OPERATIONS.keys() | _AS_PARAMETERS.keys() == _ANSWERS.keys()
    assert _AS_PARAMETERS.keys().isdisjoint(OPERATIONS)


_PATTERNS = {
    operation: re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(operation)), re.DOTALL)
    for operation in [*OPERATIONS, *_AS_PARAMETERS]
}


def _operation_of(request: Request) -> str | None:
    """Return the operation of a request. Literal paths take precedence over parameters."""
    asked = f"{request.method} {unquote(request.path)}"
    fitting = [each for each, pattern in _PATTERNS.items() if pattern.fullmatch(asked)]
    if not fitting:
        return None
    found = min(fitting, key=lambda operation: operation.count("{"))
    return _AS_PARAMETERS.get(found, found)


def _undocumented(operation: str, answer: Answer) -> str | None:
    """List what the document does not say about a response."""
    responses = _responses(operation)
    if str(answer.status) not in responses:
        return f"status {answer.status}"
    response = responses[str(answer.status)]
    if not response.keys() >= {"headers"} and {"location", "etag"} & answer.headers.keys():
        return "headers"
    if "content" not in response:
        return "a body" if answer.body else None
    if answer.media_type not in response["content"]:
        return f"type {answer.media_type!r}"
    if answer.media_type == "application/json":
        validator = _validator(operation, answer.status)
        errors = list(validator.iter_errors(json.loads(answer.body)))
        return errors[0].message if errors else None
    return None


def test_it_tells_all_recorded_answers_and_tells_of_no_others() -> None:
    seen = set[tuple[str, int]]()
    for scenario in scenarios():
        for request, answer in replay_on_sqlite(scenario).exchanges:
            operation = _operation_of(request)
            if operation is not None and answer.status != 405:
                seen.add((operation, answer.status))
                wrong = _undocumented(operation, answer)
                assert wrong is None, f"{request.method} {request.target}: {wrong}"
    own = {
        (operation, status)
        for operation, told in OPERATIONS.items()
        for status in [*_ANSWERS[operation], *told.refusals]
        if status != 500  # an unreachable database was never recorded
    }
    assert own <= seen


# Possible values of body fields once there are a setting "a" and a rule.
_SAMPLES: dict[str, Any] = {
    "alias": "b",
    "configurable_features": ["user"],
    "context_feature": "new",
    "default_value": 1,
    "feature_values": {"user": "x"},
    "metadata": {"k": 1},
    "name": "a",
    "setting": "a",
    "to_after": "user",
    "to_before": "user",
    "type": "int",
    "value": 2,
    "version": "1.0",
}


class _Watched(dict[str, Any]):
    """The fields of a body. Adds the names of fields that are read to *asked*."""

    def __init__(self, fields: dict[str, Any], asked: set[str]) -> None:
        super().__init__(fields)
        self._asked = asked

    def __contains__(self, name: object) -> bool:
        self._asked.add(str(name))
        return super().__contains__(name)

    def __getitem__(self, name: str) -> Any:
        self._asked.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._asked.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_bodies_are_read_as_they_are_described(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All described fields are read, and no others. Nothing is done without the required ones."""
    read_object = bodies.read_object
    asked = set[str]()

    def watched(*args: Any, **options: Any) -> dict[str, Any]:
        return _Watched(read_object(*args, **options), asked)

    monkeypatch.setattr(bodies, "read_object", watched)
    described = [structs.fields(kind) for kind in OPERATIONS[operation].body]
    app = create_app(features=["user", "theme"])

    async def send(operation: str, names: Iterable[str]) -> Answer:
        method, _, path = operation.partition(" ")
        path = path.format(name="a" if "settings" in path else "theme", id=1, key="k")
        query = "setting=a&feature_values=user:x" if path.endswith("search") else None
        content = json.dumps({name: _SAMPLES[name] for name in names}).encode()
        return await call(app, Request(method, path, query, AS_JSON, content))

    async def main() -> None:
        async with app.router.lifespan_context(app):
            await send("POST /api/v1/settings/declare", _SAMPLES.keys() - {"alias"})
            await send("POST /api/v1/rules", _SAMPLES)
            asked.clear()
            for fields in described:
                names = {field.encode_name for field in fields}
                required = {field.encode_name for field in fields if field.required}
                for sent in (names, required):
                    assert (await send(operation, sent)).status != 422
                for missing in required:
                    answer = await send(operation, names - {missing})
                    assert answer.status == 422
                    assert missing in answer.body.decode()
            if not described:
                assert (await send(operation, [])).status < 300

    asyncio.run(main())
    assert asked == {field.encode_name for fields in described for field in fields}


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with ServiceProcess() as process:
        yield process


# Operations find a setting and two context features named "a" or "b", and a rule.
_KNOWN = """
[parameters]
"path.name" = "a"
"path.id" = 1
"query.setting" = "a"
"""


# The lowest versions of dependencies are too old for it.
@pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is not installed")
@pytest.mark.parametrize("names", ["known", "random"])
def test_schemathesis_finds_nothing(service: ServiceProcess, tmp_path: Path, names: str) -> None:
    """No server errors, and no responses that the document does not describe.

    Deletions are sent only in random tests, because they would remove the known data.
    """
    url = service.start(features=["a", "b"], api_token="x", options=["--access-log"])
    service.declare("a", features=["a", "b"])
    service.add_rule("a", 1, a="x")
    config = tmp_path / "schemathesis.toml"
    config.write_text(_KNOWN if names == "known" else "")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)]
    command += ["run", f"{url}/openapi.json", "--header", "api_token: x", "--no-color"]
    command += ["--seed", "1", "--max-examples", "4"]
    command += ["--continue-on-failure", "--warnings", "off", "--generation-database", "none"]
    command += [
        # schemathesis considers these errors, but they follow the protocol: much is accepted that no
        # client should send, and literal paths could be names as well.
        "--exclude-checks",
        "negative_data_rejection,positive_data_acceptance,unsupported_method,"
        "allow_header_conformance,ensure_resource_availability,use_after_free",
    ]
    if names == "known":
        command += ["--exclude-method", "DELETE"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=DEADLINE * 3,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},  # the plugin's own warnings do not matter
    )
    assert result.returncode == 0, result.stdout + result.stderr
    left_out = "DELETE " if names == "known" else "none"
    selected = sum(not operation.startswith(left_out) for operation in OPERATIONS)
    assert f" {selected} selected / {len(OPERATIONS)} total" in result.stdout
    assert service.stop() == 0
    assert "Traceback" not in service.log
    if names == "known":  # some requests were successful
        assert "PUT /api/v1/rules/1/value 204 " in service.log
        assert "PUT /api/v1/settings/a/type 204 " in service.log
