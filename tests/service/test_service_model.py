"""Any sequence of calls, good and bad: each answer and all that is there afterwards are the model's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from databases import Database
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from service_model import MetadataChange, Model, Rule, Setting, Version, spelled
from transcript_replay import Answer, Request, call

# Few of each, so that they meet.
_NAMES = st.sampled_from(["a", "b", "c"])
_FEATURES = st.sampled_from(["user", "my_theme", "x2"])
_VALUES = st.sampled_from([0, 1, 0.5, "t"])
_TYPES = st.sampled_from(["int", "float", "str"])
# How a version differs from the one that is stored, in its major and in its minor number.
_STEPS = st.sampled_from([(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)])
_METADATA = st.dictionaries(st.sampled_from(["k", "l"]), st.integers(0, 2), max_size=2)
_SETS_OF_FEATURES = st.sets(_FEATURES, min_size=1)
_CONDITIONS = st.dictionaries(_FEATURES, st.sampled_from(["v", "w"]), min_size=1)
_FILTERS = st.none() | st.dictionaries(
    _FEATURES | st.just("unknown"),
    st.none() | st.lists(st.sampled_from(["v", "w"]), min_size=1, unique=True),
)
_CHANGES = st.builds(
    MetadataChange,
    st.sampled_from(["PUT", "DELETE"]),
    st.none() | st.sampled_from(["k", "l"]),
    _METADATA,
) | st.builds(MetadataChange, st.just("POST"), st.none(), _METADATA)
# The first, second, … of the rules that there are; behind the last there is none.
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
]


class ServiceMachine(RuleBasedStateMachine):
    """The service beside the model."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.model = Model(["user", "my_theme"])
        self._app = database.fresh_app(self.model.features)
        self._last_id = 0
        self._seen: dict[str, Answer] = {}
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
            [] if tag is None else [("if-none-match", tag)],
            b"" if body is None else json.dumps(body).encode(),
        )
        return self._loop.run(call(self._app, request))

    def get(self, path: str) -> Any:
        answer = self.send("GET", path)
        assert answer.status == 200
        return json.loads(answer.body)

    def change(self, status: int, method: str, path: str, **body: Any) -> Answer:
        """Send what the model answers with *status*."""
        answer = self.send(method, path, body or None)
        assert answer.status == status, answer
        return answer

    def id_at(self, place: int) -> int:
        """The id of a rule, or one that no rule has."""
        ids = sorted(self.model.rules)
        return ids[place] if place < len(ids) else self._last_id + 1

    def version(self, name: str, step: tuple[int, int]) -> Version:
        """A version for the setting that *name* leads to."""
        stored = self.model.settings.get(self.model.canonical(name) or "")
        major, minor = (1, 0) if stored is None else stored.version
        return max(major + step[0], 0), max(minor + step[1], 0)

    @initialize()
    def begin(self) -> None:
        """Something is there, so that most calls are about something."""
        self._declare("a", Setting("int", 0, (1, 0), {"user", "my_theme"}, {"k": 1}))
        self._declare("b", Setting("float", 0.5, (1, 0), {"user"}, {}))
        self._add_rule(Rule("a", {"user": "v"}, 1, {}))
        self._add_rule(Rule("a", {"my_theme": "w", "user": "v"}, 0, {"l": 2}))
        self._add_rule(Rule("b", {"user": "w"}, 0, {}))

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
        type_=_TYPES,
        default=_VALUES,
        step=_STEPS,
        features=_SETS_OF_FEATURES,
        metadata=_METADATA,
        alias=st.none() | _NAMES,
    )
    def declare(
        self,
        name: str,
        type_: str,
        default: Any,
        step: tuple[int, int],
        features: set[str],
        metadata: dict[str, int],
        alias: str | None,
    ) -> None:
        version = self.version(name if alias is None else alias, step)
        self._declare(name, Setting(type_, default, version, features, metadata), alias)

    @rule(name=_NAMES, type_=_TYPES, features=_SETS_OF_FEATURES)
    def declare_first(self, name: str, type_: str, features: set[str]) -> None:
        """Most declarations at random are refused."""
        default = "t" if type_ == "str" else 0
        self._declare(name, Setting(type_, default, (1, 0), features & {*self.model.features}, {}))

    @rule(
        name=_NAMES,
        step=_STEPS,
        features=st.none() | _SETS_OF_FEATURES,
        metadata=_METADATA,
        type_=st.none() | _TYPES,
        alias=st.none() | _NAMES,
    )
    def declare_again(
        self,
        name: str,
        step: tuple[int, int],
        features: set[str] | None,
        metadata: dict[str, int],
        type_: str | None,
        alias: str | None,
    ) -> None:
        """Close to what is there."""
        found = self.model.settings.get(self.model.canonical(alias or name) or "")
        if found is not None:
            wanted = features or found.features
            version = self.version(alias or name, step)
            again = Setting(type_ or found.type, found.default, version, wanted, metadata)
            self._declare(name, again, alias)

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
        if not declared.features:
            self.change(422, "POST", "/settings/declare", **body)
            return
        status, outcome, levels = self.model.declare(name, declared, alias)
        answer = self.change(status, "POST", "/settings/declare", **body)
        if outcome is not None:
            told = json.loads(answer.body)
            assert told["outcome"] == outcome
            assert [each["level"] for each in told.get("differences", ())] == levels

    @rule(name=_NAMES)
    def delete_setting(self, name: str) -> None:
        self.change(self.model.delete_setting(name), "DELETE", f"/settings/{name}")

    @rule(name=_NAMES, new=_NAMES, step=_STEPS)
    def rename(self, name: str, new: str, step: tuple[int, int]) -> None:
        version = self.version(name, step)
        status = self.model.rename(name, new, version)
        self.change(status, "PUT", f"/settings/{name}/name", name=new, version=spelled(version))

    @rule(name=_NAMES, type_=_TYPES, step=_STEPS)
    def change_type(self, name: str, type_: str, step: tuple[int, int]) -> None:
        version = self.version(name, step)
        status = self.model.change_type(name, type_, version)
        self.change(status, "PUT", f"/settings/{name}/type", type=type_, version=spelled(version))

    @rule(name=_NAMES, features=_SETS_OF_FEATURES, step=_STEPS)
    def change_features(self, name: str, features: set[str], step: tuple[int, int]) -> None:
        version = self.version(name, step)
        status = self.model.change_features(name, features, version)
        path = f"/settings/{name}/configurable_features"
        wanted = {"configurable_features": sorted(features), "version": spelled(version)}
        self.change(status, "PUT", path, **wanted)

    @rule(name=_NAMES, step=_STEPS, change=_CHANGES)
    def change_metadata(self, name: str, step: tuple[int, int], change: MetadataChange) -> None:
        version = self.version(name, step)
        status = self.model.change_metadata(name, version, change)
        body = change.body | {"version": spelled(version)}
        self.change(status, change.method, f"/settings/{name}{change.path}", **body)

    # --- rules ---

    @rule(new=st.builds(Rule, _NAMES, _CONDITIONS, _VALUES, _METADATA))
    def add_rule(self, new: Rule) -> None:
        self._add_rule(new)

    @rule(name=_NAMES, conditions=_CONDITIONS, metadata=_METADATA)
    def add_rule_that_fits(
        self, name: str, conditions: dict[str, str], metadata: dict[str, int]
    ) -> None:
        """Most rules at random are refused."""
        setting = self.model.settings.get(self.model.canonical(name) or "")
        if setting is not None:
            met = {each: conditions.get(each, "v") for each in setting.features}
            self._add_rule(Rule(name, met, setting.default, metadata))

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

    # --- what is malformed ---

    @rule(bad=st.sampled_from(_BAD))
    def send_what_is_bad(self, bad: tuple[str, str, Any, int]) -> None:
        method, path, body, status = bad
        assert self.send(method, path, body).status == status

    @rule(path=st.sampled_from(["/rules", "/settings/declare", "/context_features"]))
    def send_what_is_no_json(self, path: str) -> None:
        assert self.send("POST", path, None).status == 422

    # --- what is there ---

    @rule(name=_NAMES, conditions=_CONDITIONS)
    def search(self, name: str, conditions: dict[str, str]) -> None:
        id_ = self.model.rule_on(name, conditions)
        pairs = ",".join(f"{feature}:{value}" for feature, value in conditions.items())
        answer = self.send("GET", f"/rules/search?setting={name}&feature_values={pairs}")
        assert answer.status == (404 if id_ is None else 200)
        assert id_ is None or json.loads(answer.body) == {"rule_id": id_}

    @rule(names=st.none() | st.lists(_NAMES, max_size=3), listed=_FILTERS)
    def query(
        self, names: Sequence[str] | None, listed: Mapping[str, Sequence[str] | None] | None
    ) -> None:
        parameters = ["include_metadata=true"]
        if names is not None:
            parameters.append(f"settings={','.join(names)}")
        if listed is not None:
            items = (
                f"{feature}:*" if values is None else f"{feature}:({','.join(values)})"
                for feature, values in listed.items()
            )
            parameters.append(f"context_filters={','.join(items)}")
        expected = self.model.queried(names, listed)
        self._query(f"/query?{'&'.join(parameters)}", expected)

    @invariant()
    def all_is_as_in_the_model(self) -> None:
        assert self.get("/context_features") == {"context_features": self.model.features}
        listed = self.get("/settings?include_additional_data=true")["settings"]
        assert listed == self.model.listed()
        self._query("/query?include_metadata=true", self.model.queried(None, None))

    def _query(self, path: str, expected: dict[str, Any] | None) -> None:
        """Ask with the last tag, if it was asked before."""
        last = self._seen.get(path)
        answer = self.send("GET", path, tag=None if last is None else last.headers["etag"])
        if expected is None:
            assert answer.status == 404
            return
        if answer.status == 304:
            assert last is not None
            assert answer.headers["etag"] == last.headers["etag"]
            answer = last
        else:
            assert answer.status == 200
            assert last is None or last.body != answer.body
            self._seen[path] = answer
        assert json.loads(answer.body)["settings"] == expected


def test_any_sequence_of_calls_does_what_the_model_does(database: Database) -> None:
    class Machine(ServiceMachine):
        def __init__(self) -> None:
            super().__init__(database)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            deadline=None,
            max_examples=40 if database.name == "SQLite" else 20,  # which takes as long
            stateful_step_count=50,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
