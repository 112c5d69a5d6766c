"""The wire package against exchanges that were recorded from a real service.

A recorded step counts if the library sends requests with its method and path. Its response is read, and
the result is compared with the recorded JSON. If the library could have sent the same request, from a
declaration or a query with the same parts, the request is compared too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, unquote

from support.reading import read_section

from heksher import _wire
from heksher._wire import (
    Declaration,
    DeclarationAnswer,
    Exchange,
    Request,
    Response,
    UnknownNames,
)
from heksher._wire.queries import QueryAnswer
from heksher.exceptions import UnexpectedStatusError
from heksher.status import DeclarationState, SettingData

T = TypeVar("T")

FOLDER = Path(__file__).parent.parent / "service" / "transcripts"
FILES = sorted(FOLDER.glob("*.json"))


@dataclass(frozen=True)
class Step:
    """A recorded exchange, in which references to earlier steps are resolved."""

    where: str
    request: dict[str, Any]
    answer: dict[str, Any]

    @property
    def kind(self) -> str | None:
        """The library's request of this method and path, or None."""
        kinds = {
            ("GET", "/api/health"): "health",
            ("GET", "/api/v1/context_features"): "context features",
            ("GET", "/api/v1/settings"): "settings",
            ("POST", "/api/v1/settings/declare"): "declaration",
            ("GET", "/api/v1/query"): "query",
        }
        return kinds.get((self.request["method"], self.request["path"]))

    @property
    def response(self) -> Response:
        if "json" in self.answer:
            body = json.dumps(self.answer["json"], ensure_ascii=False).encode()
        elif "json_any" in self.answer:
            body = b'{"detail": []}'
        else:
            body = str(self.answer.get("text", "")).encode()
        return Response(self.answer["status"], self.answer.get("headers", {}), body)


def steps_of(file: Path) -> list[Step]:
    steps: list[Step] = []
    for scenario in json.loads(file.read_text(encoding="utf-8"))["scenarios"]:
        recorded = scenario["steps"]

        def etag(found: re.Match[str], recorded: Any = recorded) -> str:
            tag: str = recorded[int(found[2])]["response"]["headers"]["etag"]
            return tag.strip('"') if found[1] else tag

        for number, step in enumerate(recorded):
            request = dict(step["request"])
            if isinstance(text := request.get("headers", {}).get("if-none-match"), str):
                text = re.sub(r"\$\{etag(_bare)?:(\d+)\}", etag, text)
                request["headers"] = {**request["headers"], "if-none-match": text}
            steps.append(
                Step(f"{file.name}, {scenario['name']}, step {number}", request, step["response"])
            )
    return steps


ALL_STEPS = [step for file in FILES for step in steps_of(file)]
STEPS = [step for step in ALL_STEPS if step.kind is not None]


#: Requests of the library with a slash at the end of the path.
REDIRECTED = [
    step
    for step in ALL_STEPS
    if step.answer["status"] == 307
    and replace(step, request={**step.request, "path": step.request["path"].rstrip("/")}).kind
]


def of_kind(kind: str) -> list[Step]:
    return [step for step in STEPS if step.kind == kind]


def exact(value: object) -> str:
    """A text that differs if the JSON values do: 1, 1.0 and true are three."""
    return json.dumps(value, sort_keys=True)


def read_or_error(step: Step, exchange: Exchange[T]) -> T | UnexpectedStatusError:
    """Do what a client does with a response."""
    if step.response.status in exchange.request.expected:
        return exchange.read(step.response)
    return _wire.unexpected_status(exchange.request, step.response)


def check_error(step: Step, error: object) -> None:
    assert isinstance(error, UnexpectedStatusError), step.where
    assert error.status == step.answer["status"], step.where
    assert error.retry_after is None, step.where
    assert f"{step.request['path'][1:]} returned HTTP {error.status}" in str(error), step.where
    assert str(error).endswith(step.response.body[:200].decode()), step.where


# --- responses --------------------------------------------------------------------------------------


def test_answers_to_the_health_check() -> None:
    for step in of_kind("health"):
        assert step.response.status in _wire.health().request.expected, step.where


def test_lists_of_context_features() -> None:
    for step in of_kind("context features"):
        read = read_or_error(step, _wire.context_features())
        if step.answer["status"] == 200:
            names = tuple(step.answer["json"]["context_features"])
            assert read == _wire.ContextFeatures(names), step.where
        else:
            check_error(step, read)


def test_lists_of_settings() -> None:
    for step in of_kind("settings"):
        read = read_or_error(step, _wire.settings())
        if step.answer["status"] != 200:
            check_error(step, read)
            continue
        assert isinstance(read, dict), step.where
        recorded = {each["name"]: each for each in step.answer["json"]["settings"]}
        assert len(recorded) == len(step.answer["json"]["settings"]), step.where
        assert read.keys() == recorded.keys(), step.where
        for name, setting in read.items():
            check_setting(step, setting, recorded[name])


def check_setting(step: Step, setting: SettingData, recorded: dict[str, Any]) -> None:
    # These are missing in a response without additional data, which the library always asks for.
    recorded = {"configurable_features": [], "metadata": {}, "aliases": [], **recorded}
    found = {
        "name": setting.name,
        "type": setting.type,
        "default_value": setting.default_value,
        "version": setting.version,
        "configurable_features": list(setting.configurable_features),
        "metadata": setting.metadata,
        "aliases": sorted(setting.aliases),
    }
    assert exact(found) == exact({**recorded, "aliases": sorted(recorded["aliases"])}), step.where


def test_answers_to_declarations() -> None:
    for step in of_kind("declaration"):
        exchange = _wire.declare(Declaration("a", "int", ("user",), 1))
        read = read_or_error(step, exchange)
        if step.answer["status"] == 500:
            check_error(step, read)
            continue
        assert isinstance(read, DeclarationAnswer), step.where
        recorded = step.answer.get("json", {})
        if step.answer["status"] in (200, 409) and "outcome" in recorded:
            check_outcome(step, read, recorded)
        else:
            assert read.state is DeclarationState.REFUSED, step.where
            assert step.response.body.decode() in read.text, step.where
        refused = step.answer["status"] != 200
        assert read.accepted is not refused, step.where


def check_outcome(step: Step, read: DeclarationAnswer, recorded: dict[str, Any]) -> None:
    assert read.state.value == recorded["outcome"], step.where
    versions = {recorded[key] for key in ("latest_version", "previous_version") if key in recorded}
    assert {read.service_version} == (versions or {None}), step.where
    differences = recorded.get("differences", [])
    assert len(read.differences) == len(differences), step.where
    for difference, expected in zip(read.differences, differences, strict=True):
        if difference.attribute is None:
            found: dict[str, Any] = {"message": difference.message}
        else:
            found = {"attribute": difference.attribute, "latest_value": difference.latest_value}
        assert exact({"level": difference.level, **found}) == exact(expected), step.where


def test_answers_to_queries() -> None:
    for step in of_kind("query"):
        tag = step.request.get("headers", {}).get("if-none-match")
        read = read_or_error(step, _wire.query(["a"], None, tag))
        status = step.answer["status"]
        if status == 200:
            assert isinstance(read, QueryAnswer), step.where
            check_sections(step, read)
        elif status == 304:
            assert read == QueryAnswer({}, tag, is_partial=True), step.where
        elif status == 404:
            assert isinstance(read, UnknownNames), step.where
        else:
            check_error(step, read)


def check_sections(step: Step, read: QueryAnswer) -> None:
    assert read.etag == step.answer["headers"]["etag"], step.where
    recorded = step.answer["json"]["settings"]
    assert read.sections.keys() == recorded.keys(), step.where
    for name, raw in read.sections.items():
        assert exact(json.loads(bytes(raw))) == exact(recorded[name]), step.where
        section = read_section(raw)
        assert exact(section.default_value) == exact(recorded[name]["default_value"]), step.where
        rules = [
            {
                "value": rule.value,
                "context_features": rule.context_features,
                "rule_id": rule.rule_id,
            }
            for rule in section.rules
        ]
        expected = [
            {key: rule[key] for key in ("value", "context_features", "rule_id")}
            for rule in recorded[name]["rules"]
        ]
        assert exact(rules) == exact(expected), step.where


def test_redirects() -> None:
    base_url = "http://heksher.test:8000/"
    for step in REDIRECTED:
        query = f"?{step.request['query']}" if "query" in step.request else ""
        asked = Request(step.request["method"], f"{step.request['path'][1:]}{query}", body=b"1")
        location = step.answer["headers"]["location"].format(base=base_url[:-1])
        moved = _wire.redirected(base_url, asked, Response(307, {"location": location}))
        # Only the slashes at the end of the path have gone.
        path = step.request["path"][1:].rstrip("/")
        assert moved == replace(asked, target=f"{path}{query}"), step.where


# --- requests -------------------------------------------------------------------------------------


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_text, cast(Iterable[Any], value)))


DECLARED: dict[str, Callable[[Any], bool]] = {
    "name": is_text,
    "type": is_text,
    "configurable_features": is_list_of_text,
    "default_value": lambda _: True,
    "metadata": lambda value: isinstance(value, dict),
    "alias": is_text,
    "version": is_text,
}
REQUIRED = {"name", "type", "configurable_features", "default_value"}


def recorded_declaration(step: Step) -> Declaration | None:
    """The declaration in the recorded request, or None if a `Declaration` cannot express it."""
    body = step.request.get("json")
    if step.kind != "declaration" or not isinstance(body, dict):
        return None
    fields = cast(dict[str, Any], body)
    if not REQUIRED <= fields.keys() <= DECLARED.keys():
        return None
    if not all(DECLARED[key](value) for key, value in fields.items()):
        return None
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate, which no setting accepts
        return None
    features = tuple(fields["configurable_features"])
    arguments: dict[str, Any] = {**fields, "configurable_features": features}
    return Declaration(**arguments)


def recorded_query(step: Step) -> Exchange[Any] | None:
    """The query in the recorded request, or None if the library never sends it."""
    if step.kind != "query" or "json" in step.request:
        return None
    parts = [part.partition("=") for part in step.request.get("query", "").split("&")]
    if [key for key, _, _ in parts] not in (["settings"], ["settings", "context_filters"]):
        return None
    values = [unquote(value.replace("+", " ")) for _, _, value in parts]
    headers = step.request.get("headers", {})
    if not headers.keys() <= {"if-none-match"} or not isinstance(
        headers.get("if-none-match", ""), str
    ):
        return None
    filters = values[1] if len(values) == 2 else None
    return _wire.query(values[0].split(","), filters, headers.get("if-none-match"))


def is_plain(step: Step) -> bool:
    expected = "include_additional_data=true" if step.kind == "settings" else None
    return step.request.get("query") == expected


def plain_request(step: Step) -> Request | None:
    simple: dict[str | None, Exchange[Any]] = {
        "health": _wire.health(),
        "context features": _wire.context_features(),
        "settings": _wire.settings(),
    }
    if step.kind not in simple or not step.request.keys() <= {"method", "path", "query"}:
        return None
    if not is_plain(step):
        return None
    return simple[step.kind].request


def check_target(step: Step, request: Request) -> None:
    """Check method, path, and decoded parameters."""
    path, _, parameters = request.target.partition("?")
    assert (request.method, "/" + path) == (step.request["method"], step.request["path"]), (
        step.where
    )
    recorded = step.request.get("query", "")
    assert parse_qs(
        parameters, keep_blank_values=True, strict_parsing=bool(parameters)
    ) == parse_qs(recorded, keep_blank_values=True), step.where


def test_requests_without_parts() -> None:
    for step in STEPS:
        request = plain_request(step)
        if request is not None:
            check_target(step, request)
            assert (request.headers, request.body) == ((), None), step.where


def test_declarations_are_sent_as_they_were_recorded() -> None:
    for step in STEPS:
        declaration = recorded_declaration(step)
        if declaration is None:
            continue
        request = _wire.declare(declaration).request
        check_target(step, request)
        assert request.headers == (("content-type", "application/json"),), step.where
        # Fields that the recording leaves out have these values.
        recorded: dict[str, Any] = {"metadata": {}, "version": "1.0", **step.request["json"]}
        assert request.body is not None
        assert exact(json.loads(request.body)) == exact(recorded), step.where


def test_queries_are_sent_as_they_were_recorded() -> None:
    for step in STEPS:
        exchange = recorded_query(step)
        if exchange is None:
            continue
        check_target(step, exchange.request)
        assert dict(exchange.request.headers) == step.request.get("headers", {}), step.where
        assert exchange.request.body is None, step.where


# --- the recordings are complete ------------------------------------------------------------------


def test_the_number_of_responses_that_were_read() -> None:
    assert len(FILES) == 17
    assert Counter((step.kind, step.answer["status"]) for step in STEPS) == {
        ("health", 200): 5,
        ("context features", 200): 118,
        ("context features", 500): 14,
        ("settings", 200): 136,
        ("settings", 422): 6,
        ("declaration", 200): 1549,
        ("declaration", 400): 13,
        ("declaration", 404): 21,
        ("declaration", 409): 232,
        ("declaration", 422): 732,
        ("declaration", 500): 20,
        ("query", 200): 497,
        ("query", 304): 43,
        ("query", 400): 18,
        ("query", 404): 20,
        ("query", 422): 108,
    }
    assert len(REDIRECTED) == 11


def test_the_number_of_declarations_by_outcome() -> None:
    exchange = _wire.declare(Declaration("a", "int", ("user",), 1))
    outcomes = Counter(
        exchange.read(step.response).state
        for step in of_kind("declaration")
        if step.answer["status"] in exchange.request.expected
    )
    assert outcomes == {
        DeclarationState.CREATED: 926,
        DeclarationState.UPTODATE: 176,
        DeclarationState.UPGRADED: 245,
        DeclarationState.OUTDATED: 202,
        DeclarationState.MISMATCH: 80,
        DeclarationState.REJECTED: 147,
        DeclarationState.REFUSED: 771,
    }


def test_the_number_of_requests_that_were_compared() -> None:
    compared = {
        "plain": [step for step in STEPS if plain_request(step) is not None],
        "declarations": [step for step in STEPS if recorded_declaration(step) is not None],
        "queries": [step for step in STEPS if recorded_query(step) is not None],
        "with an ETag": [
            step
            for step in STEPS
            if (exchange := recorded_query(step)) is not None and exchange.request.headers
        ],
    }
    assert {kind: len(steps) for kind, steps in compared.items()} == {
        "plain": 194,
        "declarations": 2447,
        "queries": 181,
        "with an ETag": 36,
    }
