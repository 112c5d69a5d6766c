"""Requests of the protocol, every kind of response, redirects, and how long queries are split."""

from __future__ import annotations

import dataclasses
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.reading import read_section

from heksher._text import excerpt
from heksher._wire import (
    Declaration,
    Difference,
    Exchange,
    KnownSections,
    Request,
    Response,
    UnknownNames,
    context_features,
    declare,
    decode_section,
    health,
    query,
    query_target,
    redirected,
    setting,
    settings,
    split_names,
    unexpected_status,
)
from heksher._wire.errors import retry_after
from heksher._wire.queries import MAX_QUERY_LENGTH, QueryAnswer
from heksher.exceptions import InvalidResponseError, ServiceError, UnexpectedStatusError
from heksher.status import DeclarationState, SettingData

TTL = Declaration("cache_ttl", "int", ("user", "theme"), 60)


def answer(body: object, status: int = 200, **headers: str) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, headers, raw)


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exchange", "target"),
    [
        (health(), "api/health"),
        (context_features(), "api/v1/context_features"),
        (settings(), "api/v1/settings?include_additional_data=true"),
    ],
    ids=["health", "context features", "settings"],
)
def test_a_lookup_is_a_plain_get(exchange: Exchange[Any], target: str) -> None:
    # Health is said by the status alone.
    reads_body = target != "api/health"
    assert exchange.request == Request("GET", target, (), None, frozenset((200,)), reads_body)


def test_a_declaration_has_all_attributes() -> None:
    declaration = Declaration(
        "cache_ttl", "int", ("user", "theme"), 60, {"k": [1, None]}, "old_ttl", "1.2"
    )
    request = declare(declaration).request
    assert (request.method, request.target) == ("POST", "api/v1/settings/declare")
    assert dict(request.headers) == {"content-type": "application/json"}
    assert request.body is not None
    assert json.loads(request.body) == {
        "name": "cache_ttl",
        "type": "int",
        "configurable_features": ["user", "theme"],
        "default_value": 60,
        "metadata": {"k": [1, None]},
        "alias": "old_ttl",
        "version": "1.2",
    }
    assert request.expected > {200, 400, 403, 404, 405, 409, 413, 422}
    assert request.expected.isdisjoint({401, 407, 408, 425, 429, 500, 503})


def test_a_declaration_without_an_alias_has_no_alias_field() -> None:
    body = declare(TTL).request.body
    assert body is not None
    assert "alias" not in json.loads(body)
    assert json.loads(body)["metadata"] == {}


@pytest.mark.parametrize("default", [0, 0.0, "", False, 1.0, 1e300, "é\x00", 2**63 - 1], ids=repr)
def test_a_declared_default_keeps_its_json_type(default: Any) -> None:
    body = declare(Declaration("a", "float", ("user",), default)).request.body
    assert body is not None
    sent = json.loads(body)["default_value"]
    assert (type(sent), sent) == (type(default), default)


def test_a_query_has_names_filter_and_etag() -> None:
    assert query(["a", "b.c"], None, None).request == Request(
        "GET", "api/v1/query?settings=a,b.c", (), None, frozenset((200, 404))
    )
    assert query(["a"], "user:(jim,joe),theme:*", '"tag"').request == Request(
        "GET",
        "api/v1/query?settings=a&context_filters=user:(jim,joe),theme:*",
        (("if-none-match", '"tag"'),),
        None,
        frozenset((200, 304, 404)),
    )
    assert query_target(["a"], "") == "api/v1/query?settings=a&context_filters="


@pytest.mark.parametrize(
    ("name", "text"), [("a\n", "a%0A"), ("a&b", "a%26b"), ("a b", "a%20b"), ("é", "%C3%A9")]
)
def test_a_name_that_needs_it_is_percent_encoded(name: str, text: str) -> None:
    # The service lets a setting be renamed to "a\n".
    assert query_target([name, "b"], None) == f"api/v1/query?settings={text},b"


# --- responses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b'{"version":"0.5.7"}', b"", b"OK", b"{", b"\xff"])
def test_any_body_is_healthy(body: bytes) -> None:
    health().read(Response(200, {}, body))  # raises nothing


def test_features_keep_the_services_order() -> None:
    assert context_features().read(answer({"context_features": ["b", "a"]})).names == ("b", "a")
    assert context_features().read(answer({"context_features": []})).names == ()


def test_the_revision_of_an_answer_is_kept() -> None:
    headers = {"heksher-revision": "r1"}
    features = Response(200, headers, b'{"context_features": []}')
    assert context_features().read(features).revision == "r1"
    exchange = query(["a"], None, '"tag"')
    for response in (Response(200, headers, b'{"settings": {}}'), Response(304, headers)):
        read = exchange.read(response)
        assert isinstance(read, QueryAnswer)
        assert read.revision == "r1"


def test_settings_can_be_listed_by_name() -> None:
    target = settings(["a", "b\n"]).request.target
    assert target == "api/v1/settings?include_additional_data=true&settings=a,b%0A"


def test_one_setting() -> None:
    exchange = setting("a.b")
    assert exchange.request.target == "api/v1/settings/a.b"
    stored: dict[str, Any] = {
        "name": "c",
        "configurable_features": ["user"],
        "type": "int",
        "default_value": 1,
        "metadata": {},
        "aliases": ["a.b"],
        "version": "1.0",
    }
    found = exchange.read(answer(stored))
    assert found is not None
    assert (found.name, found.aliases) == ("c", ["a.b"])
    assert exchange.read(Response(404, {}, b"the setting a.b does not exist")) is None


@pytest.mark.parametrize("body", [b"", b"404 page not found", b'{"detail":"Not Found"}'])
def test_a_404_of_a_gateway_does_not_say_that_there_is_no_setting(body: bytes) -> None:
    with pytest.raises(InvalidResponseError, match="'a': unknown answer"):
        setting("a").read(Response(404, {}, body))


@pytest.mark.parametrize(
    "features", [[f"f{i}" for i in range(20_000)], ["x" * 1_000_000]], ids=["many", "long"]
)
def test_a_list_of_features_that_is_too_large_is_refused(features: list[str]) -> None:
    with pytest.raises(InvalidResponseError, match=r"at most \d+ are read"):
        context_features().read(answer({"context_features": features}))


def test_a_settings_data_reads_like_any_dataclass() -> None:
    data = SettingData("a", "int", 1, "1.0", ["user"], {"k": 1}, ["b"])
    assert dataclasses.asdict(data) == {
        "name": "a",
        "type": "int",
        "default_value": 1,
        "version": "1.0",
        "configurable_features": ["user"],
        "metadata": {"k": 1},
        "aliases": ["b"],
    }


def test_settings_are_found_by_name() -> None:
    full = {
        "name": "a",
        "type": "int",
        "default_value": None,
        "version": "1.10",
        "configurable_features": ["user", "theme"],
        "metadata": {"k": 1},
        "aliases": ["b"],
        "something_new": 1,
    }
    bare = {"name": "c", "type": "str", "default_value": "", "version": "1.0"}
    assert settings().read(answer({"settings": [full, bare]})) == {
        "a": SettingData("a", "int", None, "1.10", ["user", "theme"], {"k": 1}, ["b"]),
        "c": SettingData("c", "str", "", "1.0"),
    }


@pytest.mark.parametrize(
    ("status", "body", "state", "version", "accepted"),
    [
        (200, {"outcome": "created"}, DeclarationState.CREATED, None, True),
        (200, {"outcome": "uptodate"}, DeclarationState.UPTODATE, None, True),
        (
            200,
            {"outcome": "upgraded", "previous_version": "1.0"},
            DeclarationState.UPGRADED,
            "1.0",
            True,
        ),
        (
            200,
            {"outcome": "outdated", "latest_version": "2.0"},
            DeclarationState.OUTDATED,
            "2.0",
            True,
        ),
        (409, {"outcome": "mismatch"}, DeclarationState.MISMATCH, None, False),
        (
            409,
            {"outcome": "rejected", "previous_version": "1.0"},
            DeclarationState.REJECTED,
            "1.0",
            False,
        ),
    ],
    ids=lambda each: str(each) if isinstance(each, DeclarationState) else "",
)
def test_each_outcome_of_a_declaration_is_read(
    status: int, body: dict[str, Any], state: DeclarationState, version: str | None, accepted: bool
) -> None:
    body["differences"] = [
        {"level": "minor", "message": "removal of configurable features ['user']"},
        {"level": "major", "attribute": "type", "latest_value": "str"},
        {"level": "minor", "attribute": "default_value", "latest_value": None},
    ]
    read = declare(TTL).read(answer(body, status))
    assert read.state is state
    assert read.service_version == version
    assert read.accepted is accepted
    assert read.differences == (
        Difference("minor", message="removal of configurable features ['user']"),
        Difference("major", "type", "str"),
        Difference("minor", "default_value", None),
    )


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b"newly created settings must have version 1.0"),
        (404, b"{'x'} are not acceptable context features"),
        (404, b'{"detail":"alias A does not exist"}'),
        (409, b'{"detail":"alias A is an alias of unrelated setting C"}'),
        (422, b'{"detail":[{"loc":["body"]}]}'),
        (400, b"\xff\xfe not even text"),
        (404, b""),
    ],
    ids=lambda each: str(each)[:20],
)
def test_a_refusal_without_an_outcome_keeps_the_services_words(status: int, body: bytes) -> None:
    read = declare(TTL).read(Response(status, {}, body))
    assert read.state is DeclarationState.REFUSED
    assert not read.accepted
    assert str(status) in read.text
    assert body.decode("utf-8", "replace") in read.text


def test_the_text_of_a_refusal_is_bounded() -> None:
    assert len(declare(TTL).read(Response(422, {}, b"x" * 10**6)).text) < 1100


def test_a_query_leaves_sections_undecoded() -> None:
    body = b'{"settings": {"a": {"default_value": 1, "rules": []}, "b": "broken"}}'
    read = query(["a", "b"], None, None).read(Response(200, {"etag": '"t"'}, body))
    assert isinstance(read, QueryAnswer)
    assert {name: bytes(raw) for name, raw in read.sections.items()} == {
        "a": b'{"default_value": 1, "rules": []}',
        "b": b'"broken"',
    }
    assert read.etag == '"t"'


def test_a_query_may_be_answered_without_a_body() -> None:
    assert query(["a"], None, '"t"').read(Response(304)) == QueryAnswer({}, '"t"', is_partial=True)
    assert isinstance(query(["a"], None, None).read(Response(404, {}, b"?")), UnknownNames)


@pytest.mark.parametrize("tag", ['"é"', '"\x7f"', '"a\x00"', '"a\nb"'], ids=ascii)
def test_an_etag_that_no_header_can_hold_is_not_kept(tag: str) -> None:
    read = query(["a"], None, None).read(Response(200, {"etag": tag}, b'{"settings":{}}'))
    assert read == QueryAnswer({}, None)


def test_a_section_is_read_rule_by_rule() -> None:
    section = read_section(
        b'{"rules": [{"value": {"x": [1.0]}, "context_features": [["user", "jim"], ["theme", "d"]],'
        b' "rule_id": 7, "metadata": {"k": 1}}, {"value": null, "context_features": [],'
        b' "rule_id": 8}], "default_value": null}'
    )
    assert section.default_value is None
    first, second = section.rules
    assert (first.value, first.rule_id) == ({"x": [1.0]}, 7)
    assert first.context_features == (("user", "jim"), ("theme", "d"))
    assert (second.value, second.rule_id, second.context_features) == (None, 8, ())


NO_JSON = [b"", b"null", b"[]", b"{", b"<html>", b"\xff", b'"\xed\xa0\x80"', b"[" * 10**5, b"{} {}"]


STRANGE: list[tuple[Exchange[Any], list[bytes]]] = [
    (
        context_features(),
        [
            b"{}",
            b'{"context_features": null}',
            b'{"context_features": [1]}',
            b'{"context_features": ["a", "b", "a"]}',
        ],
    ),
    (
        settings(),
        [
            b"{}",
            b'{"settings": {}}',
            b'{"settings": [{"name": "\\ud800", "type": "", "default_value": 1, "version": ""}]}',
        ],
    ),
    (
        declare(TTL),
        [
            b"{}",
            b'{"outcome": null}',
            b'{"outcome": "splendid"}',
            b'{"outcome": "refused"}',
            b'{"outcome": "pending"}',
            b'{"outcome": 5}',
            b'{"outcome": "created", "differences": [{}]}',
            b'{"outcome": "created", "differences": {}}',
        ],
    ),
    (query(["a"], None, None), [b"{}", b'{"settings": []}', b'{"settings": 5}']),
]


@pytest.mark.parametrize(
    ("exchange", "body"),
    [(exchange, body) for exchange, bodies in STRANGE for body in (*NO_JSON, *bodies)],
    ids=lambda each: (
        ascii(each[:60]) if isinstance(each, bytes) else each.request.target.partition("?")[0]
    ),
)
def test_an_invalid_body_is_an_invalid_response(exchange: Exchange[Any], body: bytes) -> None:
    with pytest.raises(InvalidResponseError, match=r"^the (answer|list) ") as caught:
        exchange.read(Response(200, {}, body))
    assert isinstance(caught.value, ServiceError)


@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"rules": null}',
        b'{"rules": [], "default_value": 1e999}',
    ],
    ids=lambda raw: raw.decode()[:60],
)
def test_an_invalid_section_is_an_invalid_response(raw: bytes) -> None:
    with pytest.raises(InvalidResponseError):
        read_section(raw)


@pytest.mark.parametrize(
    "rule",
    [
        b'{"context_features": [], "rule_id": 1}',
        b'{"value": 1, "rule_id": 1}',
        b'{"value": 1, "context_features": []}',
        b'{"value": 1, "context_features": [["user"]], "rule_id": 1}',
        b'{"value": 1, "context_features": [["user", 5]], "rule_id": 1}',
        b'{"value": 1, "context_features": {"user": "jim"}, "rule_id": 1}',
        b'{"value": 1, "context_features": [], "rule_id": 9223372036854775808}',
        b'{"value": 1, "context_features": [], "rule_id": -9223372036854775809}',
    ],
    ids=lambda raw: raw.decode()[:60],
)
def test_an_invalid_rule_costs_only_itself(rule: bytes) -> None:
    good = b'{"value": 2, "context_features": [["user", "jim"]], "rule_id": 7}'
    section = read_section(b'{"default_value": 1, "rules": [%s, %s]}' % (rule, good))
    assert [data.rule_id for data in section.rules] == [7]
    assert section.default_value == 1
    assert len(section.problems) == 1
    assert rule.decode() in section.problems[0]


@pytest.mark.parametrize(
    "setting",
    [
        b'{"name": "a", "type": "int", "default_value": 1}',
        b'{"name": "a", "type": "int", "version": "1.0"}',
        b"5",
    ],
    ids=lambda raw: raw.decode()[:60],
)
def test_an_invalid_setting_costs_only_itself(
    setting: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    good = b'{"name": "b", "type": "int", "default_value": 1, "version": "1.0"}'
    body = b'{"settings": [%s, %s]}' % (setting, good)
    assert list(settings().read(Response(200, {}, body))) == ["b"]
    assert ["left out" in record.message for record in caplog.records] == [True]


def test_a_hundred_invalid_rules_are_reported_and_the_others_counted() -> None:
    rule = b'{"value": "no rule", "rule_id": 1, "context_features": 5}'
    batches = [*decode_section(b'{"rules": [%s]}' % b",".join([rule] * 2_000)).batches]
    problems = [problem for batch in batches for problem in batch.problems]
    assert ["no rule" in problem for problem in problems] == [True] * 100
    assert sum(batch.unreadable for batch in batches) == 2_000


def test_twenty_invalid_settings_are_reported_and_the_others_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = b'{"settings": [%s]}' % b",".join([b"5"] * 2_000)
    assert settings().read(Response(200, {}, body)) == {}
    assert len(caplog.records) == 21
    assert "1980 more that cannot be read" in caplog.records[-1].message


def test_millions_of_elements_that_are_no_objects_are_not_taken_apart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = b",".join([b"0"] * 200_000)
    problem = "has too many values: at most 100000"
    section = read_section(b'{"rules": [%s]}' % parts)
    assert (section.rules, [problem in each for each in section.problems]) == ((), [True])
    assert settings().read(Response(200, {}, b'{"settings": [%s]}' % parts)) == {}
    assert [problem in record.message for record in caplog.records] == [True]


def test_an_answer_with_many_settings_that_were_not_asked_for_is_refused() -> None:
    def read(number: int) -> object:
        sections = b",".join(b'"s%d": {"rules": []}' % each for each in range(number))
        return query(["s1", "s2"], None, None).read(
            Response(200, {}, b'{"settings": {%s}}' % sections)
        )

    found = read(1_002)
    assert isinstance(found, QueryAnswer)
    assert {"s1", "s2"} <= {*found.sections}
    assert {type(name) for name in found.sections} == {str}
    with pytest.raises(InvalidResponseError, match="more than 1002 settings"):
        read(1_003)


def test_members_are_counted_also_if_they_have_one_name() -> None:
    body = b'{"settings": {%s}}' % b",".join([b'"s": 0'] * 2_000)
    with pytest.raises(InvalidResponseError, match="more than 1001 settings"):
        query(["s"], None, None).read(Response(200, {}, body))


def _read_with(known: KnownSections, body: bytes, *names: str) -> dict[str, bytes]:
    found = query(names, None, None, known=known).read(Response(200, {}, body))
    assert isinstance(found, QueryAnswer)
    return {name: bytes(section) for name, section in found.sections.items()}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" , ", " : ")], ids=repr)
def test_sections_that_are_known_are_read_as_those_that_are_not(
    separators: tuple[str, str],
) -> None:
    def section(value: object) -> dict[str, Any]:
        rules = [{"value": value, "context_features": [["user", "a"]], "rule_id": 1}] * 3
        return {"rules": rules, "default_value": value}

    first = {name: section(name) for name in "abcdefgh"}
    known = KnownSections()
    for sections in (
        first,
        first,
        {**first, "c": section("new"), "d": section({"e": section("e")})},
        {**first, "c": section("new")},
        dict(reversed(first.items())),
        {"a": first["a"], "h": first["h"]},
        first,
        {"z": first, "y": None, **first},
        {"z": {"a": first["a"]}, **first},
        {**first, "a": None, "b": 5},
    ):
        body = json.dumps({"settings": sections}, separators=separators).encode()
        found = _read_with(known, body, *first)
        assert {name: json.loads(text) for name, text in found.items()} == sections
        assert found == _read_with(KnownSections(), body, *first)


def test_a_known_section_hides_nothing_of_a_body_that_is_no_answer() -> None:
    section = b'{"rules":[],"default_value":1}'
    known = KnownSections()
    assert _read_with(known, b'{"settings":{"a":%s}}' % section, "a") == {"a": section}
    for body in (
        b'{"settings":{"a":%s' % section,
        b'{"settings":{"a":%s5}}' % section,
        b'{"settings":{"a":%s"b":1}}' % section,
        b'{"settings":{"x\\"a":%s}' % section,
        b'"a":%s' % section,
    ):
        with pytest.raises(InvalidResponseError):
            _read_with(known, body, "a")
    # A key with an escaped quote is another key.
    body = rb'{"settings":{"x\"a":%s}}' % section
    assert _read_with(known, body.replace(rb"\\", b"\\"), "a") != {"a": section}


def test_sections_of_names_that_are_no_longer_asked_for_are_forgotten() -> None:
    body = b'{"settings": {%s}}'
    known = KnownSections()
    for number in range(5):
        name = f"s{number}"
        known.keep_only([name])
        _read_with(known, body % b'"%s": {"rules": []}, "other": 1' % name.encode(), name)
    assert [*vars(known)["_texts"]] == ["s4"]


def test_a_list_of_settings_with_too_many_names_is_refused() -> None:
    setting = (
        b'{"name": "%d", "type": "int", "default_value": 1, "version": "1.0", "aliases": [%s]}'
    )
    aliases = b",".join([b'"a"'] * 999)

    def read(number: int) -> int:
        parts = b",".join(setting % (each, aliases) for each in range(number))
        return len(settings().read(Response(200, {}, b'{"settings": [%s]}' % parts)))

    assert read(50) == 50
    with pytest.raises(InvalidResponseError, match="too many names and aliases: at most 50000"):
        read(51)


def test_a_list_in_which_thousands_cannot_be_read_is_refused() -> None:
    def parts(number: int) -> bytes:
        return b",".join([b"{}"] * number)

    assert read_section(b'{"rules": [%s]}' % parts(10_000)).rules == ()
    with pytest.raises(InvalidResponseError, match=r"more than 10000 parts .* \(the rule\)"):
        read_section(b'{"rules": [%s]}' % parts(10_001))
    with pytest.raises(InvalidResponseError, match=r"more than 10000 parts .* \(the setting\)"):
        settings().read(Response(200, {}, b'{"settings": [%s]}' % parts(10_001)))


def test_a_part_with_too_many_values_costs_only_itself() -> None:
    many = rule_of(b"[%s]" % b",".join([b"[]"] * 60_000))
    section = read_section(b'{"rules": [%s, %s, %s]}' % (GOOD_RULE, many, GOOD_RULE))
    assert [data.rule_id for data in section.rules] == [7, 7]
    assert [
        "the rule has too many values: at most 100000" in each for each in section.problems
    ] == [True]
    for text in (b'"%s"' % (b"a,[" * 60_000), b'"%s"' % (b'\\",' * 60_000)):
        section = read_section(b'{"rules": [%s], "default_value": %s}' % (rule_of(text), text))
        assert section.default_value == section.rules[0].value == json.loads(text)
    with pytest.raises(
        InvalidResponseError, match="the default value has too many values: at most 100000"
    ):
        read_section(b'{"rules": [], "default_value": [%s]}' % b",".join([b"{}"] * 60_000))
    with pytest.raises(
        InvalidResponseError, match="'cache_ttl' has too many values: at most 100000"
    ):
        declare(TTL).read(Response(200, {}, b'{"x": [%s]}' % b",".join([b"0"] * 100_000)))


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n\t ", " : ")], ids=repr)
@pytest.mark.parametrize("bad", [None, 5, "x", [], {}, [{"value": 1}, {"value": 2}]], ids=repr)
def test_rules_are_told_apart_whatever_their_values_look_like(
    separators: tuple[str, str], bad: object
) -> None:
    """A batch ends where a rule seems to end, which may be within a value."""
    values: list[object] = [
        [{"a": 1}, {"b": [{}, {}]}],
        "},{",
        '"},{"',
        "\\",
        "[" * 70_000,
        [{"a": "},{"}] * 9_000,
        *range(3_000),
    ]
    rules: list[object] = [
        {"value": value, "context_features": [["user", "jim"]], "rule_id": number}
        for number, value in enumerate(values)
    ]
    for place in (0, 4, 2_000, len(rules)):
        with_bad = [*rules[:place], bad, *rules[place:]] if bad is not None else rules
        text = json.dumps({"rules": with_bad}, separators=separators).encode()
        section = read_section(text)
        assert [data.rule_id for data in section.rules] == [*range(len(values))]
        assert [data.value for data in section.rules] == values
        assert len(section.problems) == (bad is not None)


def test_a_body_full_of_the_shortest_rules_is_read() -> None:
    rules = b",".join([b'{"value":1,"context_features":[],"rule_id":1}'] * 20_000)
    assert len(read_section(b'{"rules":[%s]}' % rules).rules) == 20_000


DEEP = b"[" * 10_000 + b"]" * 10_000
GOOD_RULE = b'{"value": 2, "context_features": [["user", "jim"]], "rule_id": 7}'


def rule_of(value: bytes) -> bytes:
    return b'{"value": %s, "context_features": [["user", "ann"]], "rule_id": 8}' % value


@pytest.mark.parametrize(
    "value",
    [
        DEEP,
        b'"]]]]", ' + DEEP,
        b'"\\"[[[", "\\\\", ' + DEEP + b', {"a": ' + DEEP + b"}",
        b'{"a":' * 10_000 + b"[]" + b"}" * 10_000,
        b"[1, " * 10_000 + b"[]" + b"]" * 10_000,
    ],
    ids=["lists", "text", "two", "objects", "ones"],
)
def test_a_value_that_is_nested_too_deeply_costs_nothing_else(value: bytes) -> None:
    body = b'{"settings": {"a": {"default_value": 1, "rules": [%s, %s]}, "b": {"rules": []}}}'
    read = query(["a", "b"], None, None).read(
        Response(200, {}, body % (rule_of(b"[%s]" % value), GOOD_RULE))
    )
    assert isinstance(read, QueryAnswer)
    assert sorted(read.sections) == ["a", "b"]
    section = read_section(read.sections["a"])
    assert section.default_value == 1
    assert [data.rule_id for data in section.rules] == [8, 7]
    assert section.rules[1].value == 2


def test_a_value_that_is_nested_too_deeply_is_null_from_some_depth_on() -> None:
    text = rb'"\"[[\\"'
    (rule,) = read_section(
        b'{"rules": [%s]}' % rule_of(b"[%s, %s, 5, %s, 6]" % (text, DEEP, DEEP))
    ).rules
    first, deep, five, again, six = rule.value
    assert (first, five, six) == (json.loads(text), 5, 6)
    assert deep == again
    depth = 0
    while deep is not None:
        (deep,) = deep
        depth += 1
    assert 200 < depth < 210


def test_a_setting_with_deeply_nested_metadata_costs_no_other() -> None:
    setting = b'{"name": "%s", "type": "int", "default_value": 1, "version": "1.0", "metadata": %s}'
    body = b'{"settings": [%s, %s]}' % (
        setting % (b"a", b'{"k": %s}' % DEEP),
        setting % (b"b", b"{}"),
    )
    assert list(settings().read(Response(200, {}, body))) == ["a", "b"]


def test_unclosed_brackets_are_invalid_at_any_depth() -> None:
    for body in (DEEP[:10_000], DEEP[:15_000], b'{"settings": ' + DEEP[:-1], DEEP + b'"'):
        with pytest.raises(InvalidResponseError):
            query(["a"], None, None).read(Response(200, {}, body))


def test_a_part_that_is_too_large_is_refused() -> None:
    # The interpreter lock would be held while it is decoded.
    large = b'"%s"' % (b"x" * 2**22)
    section = read_section(b'{"rules": [%s, %s, %s]}' % (GOOD_RULE, rule_of(large), GOOD_RULE))
    assert [data.rule_id for data in section.rules] == [7, 7]
    (problem,) = section.problems
    assert "at most 4194304 are read" in problem
    assert len(problem) < 500
    with pytest.raises(InvalidResponseError, match="the default value has 4194306 bytes"):
        decode_section(b'{"rules": [], "default_value": %s}' % large)
    with pytest.raises(InvalidResponseError, match=r"cache_ttl' has .*; at most .* are read"):
        declare(TTL).read(Response(200, {}, b'{"outcome": "created", "x": %s}' % large))


def test_large_rules_are_decoded_in_batches_of_their_own() -> None:
    rules = b",".join([rule_of(b'"%s"' % (b"x" * 2**20)), GOOD_RULE] * 3)
    batches = list(decode_section(b'{"rules": [%s]}' % rules).batches)
    assert [[data.rule_id for data in batch.objects] for batch in batches] == [
        [8],
        [7, 8],
        [7, 8],
        [7],
    ]


def test_an_etag_that_is_too_long_is_not_kept() -> None:
    body = b'{"settings": {}}'
    for tag, kept in (("x" * 1_000, "x" * 1_000), ("x" * 1_001, None)):
        answer = query(["a"], None, None).read(Response(200, {"etag": tag}, body))
        assert isinstance(answer, QueryAnswer)
        assert answer.etag == kept


@pytest.mark.parametrize("body", [b"<html>", b"", b"5", b'{"outcome": "splendid"}'], ids=repr)
def test_a_conflict_with_an_invalid_body_is_an_error(body: bytes) -> None:
    with pytest.raises(InvalidResponseError, match="cache_ttl"):
        declare(TTL).read(Response(409, {}, body))


# --- statuses -------------------------------------------------------------------------------------


def test_an_unexpected_status_is_reported_with_path_and_text_but_without_the_query() -> None:
    request = query(["secret_name"], None, None).request
    response = Response(503, {"retry-after": "17"}, b"  down for maintenance\n" + b"x" * 1000)
    error = unexpected_status(request, response)
    assert isinstance(error, UnexpectedStatusError)
    assert (error.status, error.retry_after) == (503, 17.0)
    assert "GET api/v1/query" in str(error)
    assert "503" in str(error)
    assert "down for maintenance" in str(error)
    assert "secret_name" not in str(error)
    assert len(str(error)) < 300


def test_an_unexpected_status_without_a_text_is_reported_too() -> None:
    error = unexpected_status(health().request, Response(500))
    assert str(error) == "GET api/health returned HTTP 500"
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("\u00b2", None),
        ("\u0663", None),
        ("0" * 20 + "7", 7.0),
        ("123456789", 123456789.0),
        ("9" * 400, 1e9),
    ],
    ids=lambda each: ascii(each)[:12],
)
def test_retry_after_is_a_number_of_seconds_or_nothing(text: str, seconds: float | None) -> None:
    assert retry_after(Response(503, {"retry-after": text})) == seconds


_DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Thursday, 22-Oct-15 07:28:00 GMT", 86400.0),
        ("Wed Oct 21 07:29:00 2015", 60.0),
        (" wed, 21 oct 2015 07:28:01 gmt ", 1.0),
        (_DATE, 0.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 251956888319.0),
        ("Fri, 31 Dec 9999 23:59:59 -0100", None),
        ("Wed, 31 Feb 2015 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 77:28:00 GMT", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 " + "9" * 400, None),
        ("Wed, 21 Oct 2015", None),
        ("Wed,", None),
        (",,, \x00", None),
    ],
    ids=lambda each: ascii(each)[:40],
)
def test_retry_after_may_be_a_date_which_is_compared_with_the_responses_own(
    text: str, seconds: float | None
) -> None:
    # So a wrong clock, here or there, does not make a wait longer.
    response = Response(503, {"retry-after": text, "date": _DATE})
    assert retry_after(response, now=0.0) == seconds


@pytest.mark.parametrize("headers", [{}, {"date": ""}, {"date": "today"}])
def test_a_date_is_compared_with_now_if_the_response_has_none(headers: dict[str, str]) -> None:
    response = Response(503, {"retry-after": _DATE, **headers})
    assert retry_after(response, now=1445412480.0 - 5) == 5
    assert retry_after(response) is None
    assert unexpected_status(health().request, response, 1445412480.0 - 7).retry_after == 7


def test_without_retry_after_there_is_no_wait() -> None:
    assert retry_after(Response(503)) is None


# --- redirects ------------------------------------------------------------------------------------

BASE = "http://heksher:8000/base/"
ASKED = Request("GET", "api/v1/query?settings=a", (("if-none-match", '"t"'),))


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("http://heksher:8000/base/api/v2/query?settings=a", "api/v2/query?settings=a"),
        ("HTTP://heksher:8000/base/x", "x"),
        ("//heksher:8000/base/x", "x"),
        ("/base/x?y=1", "x?y=1"),
        ("/base/", ""),
        ("elsewhere", "api/v1/elsewhere"),
        ("../v2/query", "api/v2/query"),
        ("?settings=b", "api/v1/query?settings=b"),
        ("", "api/v1/query?settings=a"),
        ("/base/x#part", "x"),
        ("/base/x?y=/../z", "x?y=/../z"),
        ("/base/x%2Fy", "x%2Fy"),
        ("/base/...", "..."),
    ],
    ids=repr,
)
def test_a_redirect_below_the_services_address_is_followed(location: str, target: str) -> None:
    for status in (301, 302, 307, 308):
        moved = redirected(BASE, ASKED, Response(status, {"location": location}))
        assert moved == Request("GET", target, (("if-none-match", '"t"'),))


@pytest.mark.parametrize(
    "location",
    [
        "http://evil/base/x",
        "//evil/base/x",
        "//evil",
        "/\\evil/x",
        "https://heksher:8000/base/x",
        "http://heksher/base/x",
        "http://heksher:8001/base/x",
        "http://heksher:80001/base/x",
        "http://heksher:8000.evil/base/x",
        "http://heksher:8000@evil/base/x",
        "http://user:password@heksher:8000/base/x",
        "http://heksher:8000/",
        "http://heksher:8000/base",
        "http://heksher:8000/basement/x",
        "/",
        "/x",
        "/base/../x",
        "http://heksher:8000/base/../x",
        "http://heksher:8000/base/../../x",
        "http://heksher:8000/base/x/../../../x",
        "http://heksher:8000/base/..",
        "http://heksher:8000/base/./../x",
        "//heksher:8000/base/../x",
        "http://heksher:8000/base/%2e%2e/x",
        "http://heksher:8000/base/.%2E/x",
        "http://heksher:8000/base/..%2fx",
        "http://heksher:8000/base/..\\x",
        "http://heksher:8000/base/..%5Cx",
        "http://heksher:8000/base/..#x",
        "/base/%2e%2e/x",
        "../../../x",
        "../../../../../../x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://[::1",
        "http://[heksher:8000/base/x",
        "http://\u2100/base/x",
    ],
    ids=ascii,
)
def test_a_redirect_to_anywhere_else_is_not_followed(location: str) -> None:
    for status in (301, 302, 307, 308):
        assert redirected(BASE, ASKED, Response(status, {"location": location})) is None


@pytest.mark.parametrize("location", ["\\\\evil\\x", "http:\\\\evil\\x", "http:evil"])
def test_a_location_that_only_looks_like_another_host_is_a_path(
    location: str,
) -> None:
    moved = redirected(BASE, ASKED, Response(307, {"location": location}))
    assert moved is not None
    there = urlsplit(BASE + moved.target)
    assert (there.scheme, there.netloc) == ("http", "heksher:8000")
    assert there.path.startswith("/base/api/v1/")


@pytest.mark.parametrize("status", [200, 201, 300, 303, 304, 305, 404, 500])
def test_other_statuses_are_not_redirects(status: int) -> None:
    assert redirected(BASE, ASKED, Response(status, {"location": "/base/x"})) is None


def test_a_redirect_without_a_location_is_not_followed() -> None:
    assert redirected(BASE, ASKED, Response(307)) is None


def test_a_declaration_is_redirected_only_if_it_stays_a_post() -> None:
    request = declare(TTL).request
    for status in (301, 302, 303):
        assert redirected(BASE, request, Response(status, {"location": "/base/x"})) is None
    for status in (307, 308):
        moved = redirected(BASE, request, Response(status, {"location": "/base/x"}))
        assert moved is not None
        assert (moved.method, moved.target) == ("POST", "x")
        assert (moved.body, moved.headers) == (request.body, request.headers)
        assert moved.expected == request.expected


# --- long queries ---------------------------------------------------------------------------------


def test_names_that_fit_are_one_query() -> None:
    assert split_names(["b", "a"], None) == [("b", "a")]
    assert split_names([], None) == []
    assert split_names([], "user:*") == []


@pytest.mark.parametrize(
    "filters",
    [None, "user:*", "user:(" + "x" * 3000 + ")"],
    ids=["no filter", "short filter", "long filter"],
)
def test_parts_are_as_long_as_allowed(filters: str | None) -> None:
    names = [f"setting_number_{number}" for number in range(1500)]
    parts = split_names(names, filters)
    assert [name for part in parts for name in part] == names
    lengths = [len(query_target(part, filters)) for part in parts]
    assert max(lengths) <= MAX_QUERY_LENGTH
    # No part has room for the first name of the next one.
    for length, following in zip(lengths, parts[1:], strict=False):
        assert length + len(following[0]) + 1 >= MAX_QUERY_LENGTH


def test_a_name_that_is_too_long_is_a_part_of_its_own() -> None:
    huge = "x" * 10_000
    assert split_names(["a", huge, "b", "c"], None) == [("a",), (huge,), ("b", "c")]


def test_with_a_filter_that_is_too_long_each_name_is_a_part() -> None:
    assert split_names(["a", "b"], "x" * 10_000) == [("a",), ("b",)]


def test_names_count_with_their_encoded_length() -> None:
    names = ["é" * 1000, "é" * 1000]
    assert split_names(names, None) == [(names[0],), (names[1],)]


# --- how text of a response is shown ---------------------------------------------------------------


def test_an_excerpt_is_one_harmless_line() -> None:
    body = b"oops\n2026-01-01 CRITICAL root: forged\r\n\x1b[31mred\x00 \xff" + b"x" * 500
    text = excerpt(body, 60)
    assert text.startswith("oops 2026-01-01 CRITICAL root: forged \ufffd[31mred\ufffd ")
    assert text.isprintable()
    assert len(text) <= 60


@pytest.mark.parametrize(
    ("status", "target", "hint"),
    [
        (401, "api/health", "pass them in http_client_args"),
        (403, "api/v1/context_features", "pass them in http_client_args"),
        (404, "api/v1/context_features", "without /api/v1"),
        (404, "api/v1/query?settings=a", None),
        (500, "api/health", None),
    ],
)
def test_a_status_is_reported_with_a_hint(status: int, target: str, hint: str | None) -> None:
    error = unexpected_status(Request("GET", target), Response(status, {}, b"so it is"))
    assert f"returned HTTP {status}: so it is" in str(error)
    assert ("(" in str(error)) is (hint is not None)
    assert (hint or "so it is") in str(error)
