"""Replay recorded exchanges against the service: read, send, compare.

Knows the format of the transcripts and the rules for comparing answers. Requests are sent by a given
``Send``. ``python tests/service/transcript_replay.py`` prints the new content of
``differing_scenarios.txt``, with the fixes that are already named there.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.types import ASGIApp, Message

from heksher.service import create_app
from heksher.service.domain.json_values import is_list

FOLDER = Path(__file__).parent / "transcripts"
DIFFERING = Path(__file__).parent / "differing_scenarios.txt"

_BASE = "http://service"
_SHOWN = 200  # maximum number of characters of an answer in the list
# Headers of requests with a body.
AS_JSON = [("content-type", "application/json")]

_COMPARED_HEADERS = ("content-type", "etag", "vary", "location", "allow")


@dataclass(frozen=True)
class Scenario:
    """A scenario."""

    file: str
    name: str
    features: list[str]
    steps: list[dict[str, Any]]

    @property
    def key(self) -> str:
        return f"{self.file} :: {self.name}"


@dataclass(frozen=True)
class Request:
    """A request as it is sent."""

    method: str
    path: str
    query: str | None
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def target(self) -> str:
        return self.path if self.query is None else f"{self.path}?{self.query}"


@dataclass(frozen=True)
class Answer:
    """A response. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]


Send: TypeAlias = Callable[[Request], Awaitable[Answer]]


def scenarios(*files: str) -> list[Scenario]:
    """Read the scenarios of these files, or of all files."""
    return [
        Scenario(path.stem, scenario["name"], scenario["features"], scenario["steps"])
        for path in sorted(FOLDER.glob("*.json"))
        if not files or path.stem in files
        for scenario in json.loads(path.read_text(encoding="utf-8"))["scenarios"]
    ]


@dataclass(frozen=True)
class Difference:
    """An answer that differs from the recorded one: in the form of the list, and in full."""

    answer: str
    detail: str


@dataclass(frozen=True)
class Listed:
    """A difference in the list: the number of its fix, and the answer."""

    fix: str
    answer: str


@dataclass(frozen=True)
class KnownDifferences:
    """Content of ``differing_scenarios.txt``: fixes by number, and steps by key of the scenario."""

    fixes: dict[str, str]
    steps: dict[str, dict[int, Listed]]

    @classmethod
    def read(cls) -> KnownDifferences:
        known = cls({}, {})
        steps: dict[int, Listed] = {}
        for line in DIFFERING.read_text(encoding="utf-8").splitlines():
            if line.startswith("fix "):
                number, _, text = line.removeprefix("fix ").partition(": ")
                known.fixes[number] = text
            elif line.startswith("  "):
                ranges, fix, answer = line.strip().split(" | ", 2)
                steps |= dict.fromkeys(_numbers(ranges), Listed(fix, answer))
            elif line and not line.startswith("#"):
                steps = known.steps[line] = {}
        return known

    def of_fix(self, fix: str) -> set[str]:
        """Return the keys of the scenarios that differ because of this fix."""
        return {
            key
            for key, steps in self.steps.items()
            if any(listed.fix == fix for listed in steps.values())
        }


def _numbers(ranges: str) -> list[int]:
    """Parse the result of ``as_ranges``."""
    numbers: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def as_ranges(numbers: list[int]) -> str:
    """Format 0, 3, 4, 5 as ``0,3-5``."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1] = [ranges[-1][0], number]
        else:
            ranges.append([number])
    return ",".join("-".join(map(str, ends)) for ends in ranges)


async def replay(scenario: Scenario, send: Send, base: str = _BASE) -> dict[int, Difference]:
    """Send the steps in order; return the differences by number of the step."""
    state = _State(base)
    differences: dict[int, Difference] = {}
    for number, step in enumerate(scenario.steps):
        request = state.request(step["request"])
        answer = await send(request)
        difference = state.compare(step["response"], answer)
        state.answers.append(answer)
        if difference is not None:
            differences[number] = Difference(
                _shown(answer, difference),
                f"{request.method} {request.target[:300]} {request.body[:300]!r}: {difference}; "
                f"recorded {json.dumps(step['response'])[:600]}; "
                f"got {answer.status} {dict(answer.headers)} {answer.body[:600]!r}",
            )
    return differences


def _shown(answer: Answer, difference: str) -> str:
    """Format an answer for the list: status and what else matters, without texts of errors."""
    if difference in _COMPARED_HEADERS:
        return f"{answer.status} {difference}"
    if answer.media_type != "application/json" or not answer.body:
        return str(answer.status)
    body = json.loads(answer.body)
    if answer.status >= 400 and "outcome" not in body:
        return str(answer.status)
    text = _normal(body)
    return f"{answer.status} {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"


async def replay_in_process(scenario: Scenario, app: Starlette) -> dict[int, Difference]:
    """Replay against a new application with the scenario's features."""
    async with app.router.lifespan_context(app):
        return await replay(scenario, lambda request: call(app, request))


@dataclass(frozen=True)
class Replayed:
    """A replay: the differences by number of the step, and all requests with their answers."""

    differences: dict[int, Difference]
    exchanges: list[tuple[Request, Answer]]


_on_sqlite: dict[str, Replayed] = {}


def replay_on_sqlite(scenario: Scenario) -> Replayed:
    """Replay against a new application on SQLite, once for all tests that look at the answers."""
    if scenario.key not in _on_sqlite:
        app = create_app(features=scenario.features)
        exchanges: list[tuple[Request, Answer]] = []

        async def send(request: Request) -> Answer:
            answer = await call(app, request)
            exchanges.append((request, answer))
            return answer

        async def play() -> dict[int, Difference]:
            async with app.router.lifespan_context(app):
                return await replay(scenario, send)

        _on_sqlite[scenario.key] = Replayed(asyncio.run(play()), exchanges)
    return _on_sqlite[scenario.key]


async def call(app: ASGIApp, request: Request) -> Answer:
    """Pass *request* to an ASGI application as uvicorn does."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(request.path),
        "raw_path": request.path.encode("ascii"),
        "root_path": "",
        "query_string": (request.query or "").encode("ascii"),
        "headers": [
            (b"host", b"service"),
            *((k.lower().encode(), v.strip(" \t").encode("latin-1")) for k, v in request.headers),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("service", 80),
        "state": {},
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {
        name.decode("latin-1"): value.decode("latin-1") for name, value in sent[0]["headers"]
    }
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], headers, b"" if request.method == "HEAD" else body)


@dataclass
class _State:
    """Earlier answers of a scenario, to which later steps refer."""

    base: str
    answers: list[Answer] = field(default_factory=list[Answer])
    tags: dict[str, str] = field(default_factory=dict[str, str])

    def request(self, recorded: dict[str, Any]) -> Request:
        recorded_headers: dict[str, str | list[str]] = recorded.get("headers", {})
        headers = [
            (name, self._filled_in(line))
            for name, lines in recorded_headers.items()
            for line in (lines if isinstance(lines, list) else [lines])
        ]
        body = b""
        if "json" in recorded:
            body = json.dumps(recorded["json"], ensure_ascii=False).encode()
            headers += AS_JSON
        elif "content" in recorded:
            body = recorded["content"].encode()
        elif "content_b64" in recorded:
            body = base64.b64decode(recorded["content_b64"])
        query = recorded.get("query")
        return Request(
            recorded["method"],
            self._filled_in(recorded["path"]),
            None if query is None else self._filled_in(query),
            headers,
            body,
        )

    def _filled_in(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            answer = self.answers[int(match[2])]
            if match[1] == "rule_id":
                # If there is no rule although one was recorded, use an unused id; the step will differ.
                return str(json.loads(answer.body).get("rule_id", 0))
            tag = answer.headers.get("etag", '""')
            return tag if match[1] == "etag" else tag.strip('"')

        return re.sub(r"\$\{(rule_id|etag|etag_bare):(\d+)\}", value, text)

    def compare(self, recorded: dict[str, Any], answer: Answer) -> str | None:
        """Return what differs, in a word or two, or None."""
        if recorded["status"] >= 500:
            return "a defect"  # of the original, which is not reproduced
        if answer.status != recorded["status"]:
            return "status"
        difference = self._compare_headers(recorded, answer) or _compare_bodies(recorded, answer)
        if difference is None and not self._same_tag(recorded, answer):
            difference = "etag"
        return difference

    def _compare_headers(self, recorded: dict[str, Any], answer: Answer) -> str | None:
        wanted: dict[str, str] = recorded.get("headers", {})
        for name in _COMPARED_HEADERS:
            found = answer.headers.get(name)
            match name:
                case "content-type" if name not in wanted:
                    same = answer.media_type in ("", "application/json", "text/plain")
                case "content-type" if not answer.body:
                    same = found in (
                        None,
                        wanted[name],
                    )  # the type of an empty body does not matter
                case "etag" if recorded.get("etag_any"):
                    same = found is not None
                case _ if name not in wanted or found is None:
                    same = name not in wanted and found is None
                case "etag":
                    same = True  # it is present; its value is compared last
                case "allow":
                    same = set(wanted[name].split(", ")) <= set(found.split(", "))
                case "location" if answer.status == 201:
                    same = True
                case "location":
                    same = found == wanted[name].replace("{base}", self.base)
                case _:
                    same = found == wanted[name]
            if not same:
                return name
        return None

    def _same_tag(self, recorded: dict[str, Any], answer: Answer) -> bool:
        """Whether equal recorded tags are equal here, and different ones different.

        Only meaningful for answers that are otherwise equal.
        """
        wanted = recorded.get("headers", {}).get("etag")
        if wanted is None:
            return True
        found = answer.headers["etag"]
        if wanted in self.tags:
            return self.tags[wanted] == found
        new = found not in self.tags.values()
        self.tags[wanted] = found
        return new


def _compare_bodies(recorded: dict[str, Any], answer: Answer) -> str | None:
    if recorded.get("json_any"):
        return None if answer.media_type == "application/json" else "no JSON"
    if "json" in recorded:
        if answer.media_type != "application/json":
            return "no JSON"
        return _compare_json(recorded, json.loads(answer.body))
    if "text" in recorded or recorded.get("text_any"):
        # Texts of errors may differ.
        is_text = answer.media_type.startswith("text/") and answer.body
        return None if is_text else "no text"
    return None if not answer.body else "a body"


def _compare_json(recorded: dict[str, Any], found: Any) -> str | None:
    wanted = recorded["json"]
    for path in recorded.get("volatile", ()):
        wanted, found = _without(wanted, path), _without(found, path)
    if recorded["status"] >= 400 and set(wanted) in ({"detail"}, {"conflicts"}):
        same = _shape(wanted) == _shape(found)
    else:
        same = _normal(wanted) == _normal(found)
    return None if same else "JSON"


def _shape(error: dict[str, Any]) -> dict[str, Any]:
    """Reduce an error to its structure, without texts."""
    return {
        name: ["…"] * len(value) if is_list(value) else type(value) for name, value in error.items()
    }


def _normal(value: Any) -> str:
    """Make a text for comparisons: the order of keys and aliases does not matter, 1 is not 1.0."""

    def sort_aliases(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {
            key: sorted(item) if key == "aliases" and is_list(item) else item for key, item in pairs
        }

    return json.dumps(json.loads(json.dumps(value), object_pairs_hook=sort_aliases), sort_keys=True)


def _without(value: Any, path: str) -> Any:
    """Copy *value* with null at *path*."""
    copy = json.loads(json.dumps(value))
    *parents, last = [
        int(index) if index else name for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path)
    ]
    target = copy
    for step in parents:
        target = target[step]
    target[last] = None
    return copy


def lines_of(scenario: Scenario, differences: Mapping[int, Difference]) -> list[str]:
    """Format a scenario for the list, with a question mark for an unknown fix."""
    listed = KnownDifferences.read().steps.get(scenario.key, {})
    steps: dict[Listed, list[int]] = {}
    for number, difference in differences.items():
        fix = listed[number].fix if number in listed else "?"
        steps.setdefault(Listed(fix, difference.answer), []).append(number)
    return [
        scenario.key,
        *(
            f"  {as_ranges(numbers)} | {each.fix} | {each.answer}"
            for each, numbers in steps.items()
        ),
    ]


def _print_list() -> None:
    for line in DIFFERING.read_text(encoding="utf-8").splitlines():
        if line.startswith(("#", "fix ")):
            print(line)
    for scenario in scenarios():
        app = create_app(features=scenario.features)
        differences = asyncio.run(replay_in_process(scenario, app))
        if differences:
            print(*lines_of(scenario, differences), sep="\n")


if __name__ == "__main__":
    _print_list()
