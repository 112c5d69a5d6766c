"""Any sequence of valid and invalid calls: answers and state are those of the model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from service_model import MetadataChange, Model, Rule, Setting, Version, fits, spelled
from support.databases import Database
from transcript_replay import AS_JSON, Answer, Request, call

_Listed: TypeAlias = dict[str, tuple[str, ...] | None]

# Few names, so that calls collide. At the start, "c" is an alias of "a", and "d" is unknown.
_NAMES = st.sampled_from(["a", "b", "c", "d"])
_FEATURES = st.sampled_from(["user", "my_theme", "x2"])
_VALUES = st.sampled_from([0, 1, 0.5, "t"])
_TYPES = st.sampled_from(["int", "int", "float", "str"])  # "int" is narrower than "float"
# How a version differs from the stored one, in its major and minor number. Most are higher, because
# the others are refused nearly everywhere and change nothing.
_STEPS = st.sampled_from([(0, 1), (1, 0), (0, 1), (1, 0), (0, 0), (0, -1), (-1, 0)])
_METADATA = st.dictionaries(st.sampled_from(["k", "l"]), st.integers(0, 2), max_size=2)
_SETS_OF_FEATURES = st.sets(_FEATURES, min_size=1)
_CONDITIONS = st.dictionaries(_FEATURES, st.sampled_from(["v", "w"]), min_size=1)
_FILTERS = st.none() | st.dictionaries(
    _FEATURES | st.just("unknown"),
    st.none() | st.sampled_from([("v",), ("w",), ("w", "v")]),
)
_CHANGES = st.builds(
    MetadataChange,
    st.sampled_from(["PUT", "DELETE"]),
    st.none() | st.sampled_from(["k", "l"]),
    _METADATA,
) | st.builds(MetadataChange, st.just("POST"), st.none(), _METADATA)
# Index of an existing rule; beyond the last one, there is none.
_PLACES = st.integers(0, 2)

_BAD: list[tuple[str, str, Any, int]] = [
    ("POST", "/settings/declare", {"name": "a", "type": "int", "default_value": 1}, 422),
    ("POST", "/settings/declare", ["a"], 422),
    ("POST", "/context_features", {"context_feature": "a-b"}, 422),
    ("PATCH", "/context_features/user/index", {}, 422),
    ("POST", "/rules", {"setting": "a", "feature_values": {}, "value": 1}, 422),
    ("POST", "/rules", {"setting": "a", "feature_values": {"user": "v"}}, 422),
    ("PUT", "/rules/x/value", {"value": 1}, 422),
    ("PUT", "/rules/1/value", {}, 422),
    ("PUT", "/settings/a/name", {"name": "b", "version": "1"}, 422),
    ("PUT", "/settings/a/type", {"type": "integer", "version": "9.0"}, 422),
    ("PUT", "/settings/a/configurable_features", {"configurable_features": []}, 422),
    ("GET", "/query?settings=a,,b", None, 422),
    ("GET", "/query?context_filters=user", None, 422),
    ("GET", "/query?context_filters=user:*,user:*", None, 400),
    ("GET", "/rules/search?setting=a", None, 422),
    ("DELETE", "/query", None, 405),
    ("GET", "/quer", None, 404),
    *(("POST", path, None, 422) for path in ("/rules", "/settings/declare", "/context_features")),
]


class _Question(NamedTuple):
    """The parameters of a query. None means all settings, all rules, or all values of a feature."""

    names: tuple[str, ...] | None
    listed: tuple[tuple[str, tuple[str, ...] | None], ...] | None
    with_metadata: bool

    @property
    def path(self) -> str:
        parameters = [f"include_metadata={self.with_metadata}"]
        if self.names is not None:
            parameters.append(f"settings={','.join(self.names)}")
        if self.listed is not None:
            items = (
                f"{feature}:*" if values is None else f"{feature}:({','.join(values)})"
                for feature, values in self.listed
            )
            parameters.append(f"context_filters={','.join(items)}")
        return f"/query?{'&'.join(parameters)}"


class _Seen:
    """What a client has of the answers to one query.

    Attributes:
        tag: the latest ETag.
        body: the latest whole body.
        features: the context features at that time.
        states: the sections that it had after each answer, by the revision.
    """

    def __init__(self) -> None:
        self.tag = '"none"'
        self.body = b""
        self.features = list[str]()
        self.states = {"": dict[str, Any]()}

    def add(self, answer: Answer, since: str) -> None:
        """Take an answer to a query with *since*, a key of ``states``."""
        sections = json.loads(answer.body)["settings"]
        if "heksher-partial" in answer.headers:
            sections = self.states[since] | sections
        self.states.pop(answer.headers["heksher-revision"], None)
        self.states[answer.headers["heksher-revision"]] = sections


class ServiceMachine(RuleBasedStateMachine):
    """The service and the model side by side."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.model = Model(["user", "my_theme", "x2"])
        self._app = database.fresh_app(self.model.features)
        self._last_id = 0
        self._seen = dict[_Question, _Seen]()
        self._loop = asyncio.Runner()
        self._life = self._app.router.lifespan_context(self._app)
        self._loop.run(self._life.__aenter__())

    def teardown(self) -> None:
        self._loop.run(self._life.__aexit__(None, None, None))
        self._loop.close()

    def send(self, method: str, path: str, body: Any = None, tag: str | None = None) -> Answer:
        path, mark, query = path.partition("?")
        request = Request(
            method,
            f"/api/v1{path}",
            query if mark else None,
            AS_JSON if tag is None else [("if-none-match", tag)],
            b"" if body is None else json.dumps(body).encode(),
        )
        return self._loop.run(call(self._app, request))

    def get(self, path: str) -> Any:
        answer = self.send("GET", path)
        assert answer.status == 200
        return json.loads(answer.body)

    def change(self, status: int, method: str, path: str, **body: Any) -> Answer:
        """Send a request to which the model answers *status*."""
        answer = self.send(method, path, body or None)
        assert answer.status == status, answer
        return answer

    def id_at(self, place: int) -> int:
        """The id of a rule, or an unused id."""
        ids = sorted(self.model.rules)
        return ids[place] if place < len(ids) else self._last_id + 1

    def free_name(self) -> str:
        """An unknown name, if there is one."""
        return next((name for name in "dcba" if self.model.canonical(name) is None), "d")

    def stored(self, name: str) -> Setting:
        """The setting with this name or alias; if there is none, a possible one."""
        found = self.model.canonical(name)
        return (
            Setting("int", 0, (1, 0), {"user"}, {}) if found is None else self.model.settings[found]
        )

    def version(self, name: str, step: tuple[int, int]) -> Version:
        """A version for the setting with this name or alias."""
        major, minor = self.stored(name).version
        if self.model.canonical(name) is None:  # where only 1.0 is accepted
            return (1, 0) if step != (1, 0) else (2, 0)
        return max(major + step[0], 0), max(minor + step[1], 0)

    @initialize()
    def begin(self) -> None:
        """Start with some data, so that most calls apply to something."""
        self._declare("c", Setting("float", 1, (1, 0), {"user", "my_theme"}, {"k": 1}))
        self.rename("c", "a", (0, 0))
        self._declare("b", Setting("float", 0, (1, 0), {"user", "x2"}, {}))
        self.change_type("b", "float", (8, 9), declares_first=False)  # to 9.9; 10 comes after 9
        self._add_rule(Rule("a", {"user": "v"}, 1, {}))
        self._add_rule(Rule("a", {"my_theme": "w", "user": "v"}, 0.5, {"l": 2}))
        self._add_rule(Rule("b", {"user": "w"}, 0.5, {}))

    # --- context features ---

    @rule(name=_FEATURES)
    def add_feature(self, name: str) -> None:
        status = self.model.add_feature(name)
        self.change(status, "POST", "/context_features", context_feature=name)

    @rule(name=_FEATURES)
    def delete_feature(self, name: str) -> None:
        self.change(self.model.delete_feature(name), "DELETE", f"/context_features/{name}")

    @rule(name=_FEATURES, other=_FEATURES, after=st.booleans())
    def move_feature(self, name: str, other: str, after: bool) -> None:
        status = self.model.move_feature(name, other, after=after)
        where = {"to_after" if after else "to_before": other}
        self.change(status, "PATCH", f"/context_features/{name}/index", **where)

    # --- settings ---

    @rule(
        name=_NAMES,
        takes_free_name=st.booleans(),
        alias=st.none() | _NAMES,
        step=_STEPS,
        type_=st.none() | _TYPES,
        default=st.none() | _VALUES,
        features=st.none() | _SETS_OF_FEATURES,
        metadata=st.none() | _METADATA,
    )
    def declare(
        self,
        name: str,
        takes_free_name: bool,
        alias: str | None,
        step: tuple[int, int],
        type_: str | None,
        default: Any,
        features: set[str] | None,
        metadata: dict[str, int] | None,
    ) -> None:
        """None means the stored value, because most completely random declarations are refused."""
        if takes_free_name:
            name = self.free_name()
        like = self.stored(alias or name)
        type_ = type_ or like.type
        if default is None:
            default = next(value for value in (like.default, 0, "t") if fits(value, type_))
        version = self.version(alias or name, step)
        features = features or like.features
        metadata = like.metadata if metadata is None else metadata
        self._declare(name, Setting(type_, default, version, features, metadata), alias)

    def _declare(self, name: str, declared: Setting, alias: str | None = None) -> None:
        body = {
            "name": name,
            "type": declared.type,
            "default_value": declared.default,
            "version": spelled(declared.version),
            "configurable_features": sorted(declared.features),
            "metadata": declared.metadata,
            "alias": alias,
        }
        status, outcome, levels = self.model.declare(name, declared, alias)
        answer = self.change(status, "POST", "/settings/declare", **body)
        if outcome is not None:
            told = json.loads(answer.body)
            assert told["outcome"] == outcome
            assert [each["level"] for each in told.get("differences", ())] == levels

    @rule(name=_NAMES)
    def delete_setting(self, name: str) -> None:
        self.change(self.model.delete_setting(name), "DELETE", f"/settings/{name}")

    @rule(name=_NAMES, names=st.lists(_NAMES, min_size=1, max_size=3, unique=True), step=_STEPS)
    def rename_again_and_again(self, name: str, names: list[str], step: tuple[int, int]) -> None:
        for new in names:
            self.rename(name, new, step)

    def rename(self, name: str, new: str, step: tuple[int, int]) -> None:
        version = self.version(name, step)
        status = self.model.rename(name, new, version)
        self.change(status, "PUT", f"/settings/{name}/name", name=new, version=spelled(version))

    @rule(name=_NAMES, type_=st.none() | _TYPES, step=_STEPS, declares_first=st.booleans())
    def change_type(
        self, name: str, type_: str | None, step: tuple[int, int], declares_first: bool
    ) -> None:
        """By its own route, and by a declaration with no other change."""
        version, like = self.version(name, step), self.stored(name)
        type_ = type_ or like.type
        declared = replace(like, type=type_, version=version)
        if declares_first:
            self._declare(name, declared)
        status = self.model.change_type(name, type_, version)
        self.change(status, "PUT", f"/settings/{name}/type", type=type_, version=spelled(version))
        if not declares_first:
            self._declare(name, declared)

    @rule(
        name=_NAMES,
        features=st.none() | _SETS_OF_FEATURES,
        step=_STEPS,
        declares_first=st.booleans(),
    )
    def change_features(
        self, name: str, features: set[str] | None, step: tuple[int, int], declares_first: bool
    ) -> None:
        """The same for features."""
        version, like = self.version(name, step), self.stored(name)
        features = features or like.features
        declared = replace(like, features=features, version=version)
        if declares_first:
            self._declare(name, declared)
        status = self.model.change_features(name, features, version)
        path = f"/settings/{name}/configurable_features"
        wanted = {"configurable_features": sorted(features), "version": spelled(version)}
        self.change(status, "PUT", path, **wanted)
        if not declares_first:
            self._declare(name, declared)

    @rule(name=_NAMES, step=_STEPS, change=_CHANGES)
    def change_metadata(self, name: str, step: tuple[int, int], change: MetadataChange) -> None:
        version = self.version(name, step)
        status = self.model.change_metadata(name, version, change)
        body = change.body | {"version": spelled(version)}
        self.change(status, change.method, f"/settings/{name}{change.path}", **body)

    # --- rules ---

    @rule(
        name=_NAMES,
        conditions=_CONDITIONS,
        is_within=st.booleans(),
        value=st.none() | _VALUES,
        metadata=_METADATA,
    )
    def add_rule(
        self,
        name: str,
        conditions: dict[str, str],
        is_within: bool,
        value: Any,
        metadata: dict[str, int],
    ) -> None:
        """On the setting's features or on any; the default value fits."""
        setting = self.stored(name)
        if is_within:
            within = {each: conditions.get(each, "v") for each in sorted(setting.features)}
            conditions = {each: within[each] for each in within if each in conditions} or within
        value = setting.default if value is None else value
        self._add_rule(Rule(name, conditions, value, metadata))

    @rule(place=_PLACES, name=_NAMES, left_out=st.none() | _FEATURES, added=st.none() | _FEATURES)
    def add_rule_like(self, place: int, name: str, left_out: str | None, added: str | None) -> None:
        """On the conditions of an existing rule, or on similar ones."""
        conditions = self.conditions_like(place, left_out, added)
        self._add_rule(Rule(name, conditions, self.stored(name).default, {}))

    def _add_rule(self, new: Rule) -> None:
        status = self.model.may_add_rule(new)
        answer = self.change(
            status,
            "POST",
            "/rules",
            setting=new.setting,
            feature_values=new.conditions,
            value=new.value,
            metadata=new.metadata,
        )
        if status == 201:
            id_ = json.loads(answer.body)["rule_id"]
            assert answer.headers["location"] == f"/api/v1/rules/{id_}"
            assert id_ == self._last_id + 1
            self._last_id = id_
            self.model.add_rule(id_, new)

    def conditions_like(
        self, place: int, left_out: str | None, added: str | None
    ) -> Mapping[str, str]:
        """The conditions of a rule, one of them left out and one added."""
        like = self.model.rules.get(self.id_at(place))
        conditions = dict(like.conditions) if like is not None else {}
        conditions.pop(left_out or "", None)
        if added is not None:
            conditions.setdefault(added, "v")
        return conditions or {"user": "v"}

    @rule(place=_PLACES, value=_VALUES, method=st.sampled_from(["PATCH", "PUT"]))
    def change_rule(self, place: int, value: Any, method: str) -> None:
        id_ = self.id_at(place)
        path = f"/rules/{id_}" if method == "PATCH" else f"/rules/{id_}/value"
        self.change(self.model.change_rule(id_, value), method, path, value=value)

    @rule(place=_PLACES)
    def delete_rule(self, place: int) -> None:
        id_ = self.id_at(place)
        self.change(self.model.delete_rule(id_), "DELETE", f"/rules/{id_}")

    @rule(place=_PLACES, change=_CHANGES)
    def change_rule_metadata(self, place: int, change: MetadataChange) -> None:
        id_ = self.id_at(place)
        status = self.model.change_rule_metadata(id_, change)
        self.change(status, change.method, f"/rules/{id_}{change.path}", **change.body)

    # --- malformed requests ---

    @rule(bad=st.sampled_from(_BAD))
    def send_what_is_bad(self, bad: tuple[str, str, Any, int]) -> None:
        method, path, body, status = bad
        assert self.send(method, path, body).status == status

    # --- reading ---

    @rule(place=_PLACES, left_out=st.none() | _FEATURES, added=st.none() | _FEATURES)
    def search(self, place: int, left_out: str | None, added: str | None) -> None:
        """By each name and alias."""
        conditions = self.conditions_like(place, left_out, added)
        pairs = ",".join(f"{feature}:{value}" for feature, value in conditions.items())
        for name in "abcd":
            id_ = self.model.rule_on(name, conditions)
            path = f"/rules/search?setting={name}&feature_values={pairs}"
            self.look(path, None if id_ is None else {"rule_id": id_})

    @rule(name=_NAMES, place=_PLACES, feature=_FEATURES)
    def look_at_one_of_each(self, name: str, place: int, feature: str) -> None:
        setting = self.model.one(name)
        self.look(f"/settings/{name}", setting)
        self.look(f"/settings/{name}/metadata", setting and {"metadata": setting["metadata"]})
        found = self.model.rule(self.id_at(place))
        self.look(f"/rules/{self.id_at(place)}", found)
        self.look(f"/rules/{self.id_at(place)}/metadata", found and {"metadata": found["metadata"]})
        order = self.model.features
        index = {"index": order.index(feature)} if feature in order else None
        self.look(f"/context_features/{feature}", index)

    def look(self, path: str, expected: dict[str, Any] | None) -> None:
        """GET and compare; None means 404."""
        answer = self.send("GET", path)
        assert answer.status == (404 if expected is None else 200)
        assert expected is None or json.loads(answer.body) == expected

    @rule(
        names=st.none() | st.lists(_NAMES, max_size=3).map(tuple),
        listed=_FILTERS,
        with_metadata=st.booleans(),
        place=st.integers(0, 7),
    )
    def query(
        self,
        names: tuple[str, ...] | None,
        listed: _Listed | None,
        with_metadata: bool,
        place: int,
    ) -> None:
        """A new query, or one that was sent before."""
        if self._seen:
            self.ask([*self._seen][place % len(self._seen)], place)
        self.ask(_Question(names, None if listed is None else (*listed.items(),), with_metadata))

    @invariant()
    def all_is_as_in_the_model(self) -> None:
        assert self.get("/context_features") == {"context_features": self.model.features}
        listed = self.get("/settings?include_additional_data=true")["settings"]
        assert listed == self.model.listed()
        self.ask(_Question(None, None, True))

    def ask(self, question: _Question, back: int = 0) -> None:
        """Query like a client that has an answer from *back* answers ago, or from before the service."""
        names, listed, with_metadata = question
        expected = self.model.queried(
            names, None if listed is None else dict(listed), with_metadata=with_metadata
        )
        seen = self._seen.get(question, _Seen())
        since = [*seen.states][-1 - back % len(seen.states)]
        tag = seen.tag if since == [*seen.states][-1] else '"older"'
        answer = self.send("GET", f"{question.path}&since={since}", tag=tag)
        if expected is None:
            assert answer.status == 404
            return
        self._seen[question] = seen
        if answer.status == 304:
            assert answer.headers["etag"] == seen.tag == tag
            seen.states[answer.headers["heksher-revision"]] = seen.states[since]
        else:
            assert answer.status == 200
            # The tag also stands for the features.
            is_same = (seen.body, seen.features) == (answer.body, self.model.features)
            assert tag != seen.tag or not is_same
            seen.add(answer, since)
            seen.tag, seen.features = answer.headers["etag"], list(self.model.features)
            seen.body = b"" if "heksher-partial" in answer.headers else answer.body
        assert seen.states[answer.headers["heksher-revision"]] == expected


def test_any_sequence_of_calls_does_what_the_model_does(database: Database) -> None:
    class Machine(ServiceMachine):
        def __init__(self) -> None:
            super().__init__(database)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            deadline=None,
            max_examples=8 if database.name == "SQLite" else 4,  # which is as slow
            stateful_step_count=50,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
