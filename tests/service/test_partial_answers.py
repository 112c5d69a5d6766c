"""Answers with only what may have changed since an earlier answer: when they are partial.

`test_service_model` compares them with whole answers, for any sequence of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from partial_client import FEATURES, Client, Process, a_setting, fill
from support.databases import KeptDatabase, kept_on_postgresql

from heksher.service.domain.filters import Item
from heksher.service.storage import Reader, Storage, Writer, open_storage
from heksher.service.storage.changed_names import ChangedNames
from heksher.service.web.sections import Form, Section, SectionCache


@pytest.fixture(params=["memory", "SQLite", "PostgreSQL"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    url = "memory" if request.param == "memory" else str(tmp_path / "heksher.db")
    if request.param == "PostgreSQL":
        url = kept_on_postgresql(request.getfixturevalue("postgres_server")).url
    with closing(open_storage(url, FEATURES)) as opened:
        fill(opened)
        yield opened


@pytest.fixture
def process(storage: Storage) -> Process:
    return Process(storage)


def section(*rules: tuple[int, int], default: int = 0) -> dict[str, Any]:
    """The section of a setting with rules on the user ``x``, each with its id and value."""
    return {
        "default_value": default,
        "rules": [
            {"value": value, "context_features": [["user", "x"]], "rule_id": id_}
            for id_, value in rules
        ],
    }


def write(storage: Storage, change: Callable[[Writer], object]) -> None:
    with storage.writing() as writer:
        change(writer)


def test_a_client_gets_the_settings_that_changed(process: Process, storage: Storage) -> None:
    client = Client(settings="a,c")
    assert client.ask(process) == ("whole", {"a": section((1, 1)), "c": section((3, 1))})
    assert client.ask(process) == ("unchanged", {})
    write(storage, lambda writer: writer.put_rule_value(1, "2"))
    assert client.ask(process) == ("partial", {"a": section((1, 2))})
    assert client.ask(process) == ("unchanged", {})
    write(
        storage, lambda writer: writer.put_rule_value(2, "2")
    )  # of a setting that it does not have
    assert client.ask(process) == ("unchanged", {})
    write(storage, lambda writer: writer.delete_rule(3))
    write(storage, lambda writer: writer.add_rule("a", "3", {"user": "x", "theme": "y"}, {}))
    write(storage, lambda writer: writer.delete_rule(4))
    assert client.ask(process) == ("partial", {"a": section((1, 2)), "c": section()})
    old, new = a_setting("c"), a_setting("c", default_value="5", version="1.1")
    write(storage, lambda writer: writer.replace_setting(old, new))
    assert client.ask(process) == ("partial", {"c": section(default=5)})


def test_an_answer_tells_whether_the_features_are_the_same(
    process: Process, storage: Storage
) -> None:
    client = Client(settings="a")
    client.ask(process)
    client.features = known = ["as before"]
    write(storage, lambda writer: writer.put_rule_value(2, "2"))
    assert client.ask(process) == ("unchanged", {})
    write(storage, lambda writer: writer.put_rule_value(1, "2"))
    assert client.ask(process)[0] == "partial"
    assert client.features is known
    write(storage, lambda writer: writer.delete_setting("c"))
    assert client.ask(process) == ("unchanged", {})
    assert client.features == FEATURES


def test_the_tag_is_that_of_the_whole_answer(process: Process, storage: Storage) -> None:
    client, another = Client(), Client()
    client.ask(process)
    write(storage, lambda writer: writer.put_rule_value(1, "2"))
    assert client.ask(process)[0] == "partial"
    assert another.ask(process)[0] == "whole"
    assert (client.tag, client.since) == (another.tag, another.since)


def test_the_tag_does_not_depend_on_the_names_that_were_asked_for(
    process: Process, storage: Storage
) -> None:
    # A database returns rows in any order: aliases first, or by the plan of the moment.
    write(
        storage,
        lambda writer: writer.replace_setting(a_setting("c"), a_setting("c", aliases=("d",))),
    )
    tags = set[str]()
    for names in ("a,b,c", "a,b,d", "d,b,a", "b,c,d,a"):
        client = Client(settings=names)
        client.ask(process)
        tags.add(client.tag)
    assert len(tags) == 1


def test_a_client_without_the_tag_gets_nothing_twice(process: Process, storage: Storage) -> None:
    client = Client()
    client.ask(process)
    for _ in range(2):
        client.tag = '"none"'  # a proxy may remove it
        assert client.ask(process) == ("partial", {})
        write(storage, lambda writer: writer.put_rule_value(1, "2"))
        client.ask(process)


def test_a_new_setting_is_a_change_for_those_who_ask_for_all(
    process: Process, storage: Storage
) -> None:
    everything, some = Client(), Client(settings="a")
    everything.ask(process)
    some.ask(process)
    write(storage, lambda writer: writer.add_setting(a_setting("d")))
    assert everything.ask(process) == ("partial", {"d": section()})
    assert some.ask(process) == ("unchanged", {})


_OTHER_CHANGES: dict[str, Callable[[Writer], object]] = {
    "features": lambda writer: writer.put_features(["theme", "user"]),
    "deleted": lambda writer: writer.delete_setting("b"),
    "renamed": lambda writer: writer.replace_setting(a_setting("b"), a_setting("d")),
    "alias": lambda writer: writer.replace_setting(a_setting("b"), a_setting("b", aliases=("d",))),
}


@pytest.mark.parametrize("change", _OTHER_CHANGES.values(), ids=_OTHER_CHANGES)
def test_after_other_changes_a_client_gets_everything(
    process: Process, storage: Storage, change: Callable[[Writer], object]
) -> None:
    client = Client()
    client.ask(process)
    client.tag = '"none"'
    write(storage, change)
    write(storage, lambda writer: writer.put_rule_value(1, "2"))
    kind, sections = client.ask(process)
    assert (kind, sections["a"]["rules"][0]["value"]) == ("whole", 2)
    write(storage, lambda writer: writer.put_rule_value(1, "3"))
    assert client.ask(process) == ("partial", {"a": section((1, 3))})


@pytest.mark.parametrize(
    "query",
    [
        {"since": "", "settings": "a,b"},
        {"settings": "a,b", "since": "", "context_filters": "*"},
        {"settings": "a,b", "nosince": "x"},
    ],
    ids=["first", "between", "beside another"],
)
def test_the_revision_may_be_anywhere_in_the_query(
    process: Process, storage: Storage, query: dict[str, str]
) -> None:
    client = Client(**query)
    client.ask(process)
    with storage.writing() as writer:
        writer.add_rule("b", "2", {"user": "y"}, {})
    kind, sections = client.ask(process)
    assert (kind, [*sections]) == ("partial", ["b"])


# The last one is of digits and dots that could be counts in many ways.
@pytest.mark.parametrize(
    "since",
    ["", "x", "1", "é", "x" * 5_000, "{}x", "x{}", "{}.1", "{}-1", f"x-1.1{'111.1' * 900}x"],
)
def test_a_client_with_an_unknown_revision_gets_everything(
    process: Process, storage: Storage, since: str
) -> None:
    client = Client(settings="b")
    client.ask(process)
    client.since, client.tag = since.format(client.since), '"none"'
    assert client.ask(process) == ("whole", {"b": section((2, 1))})


def test_a_revision_of_another_database_is_unknown(kept_database: KeptDatabase) -> None:
    client = Client()
    for url in ("memory", kept_database.url):
        with closing(open_storage(url, FEATURES)) as storage:
            fill(storage)
            assert client.ask(Process(storage))[0] == "whole"
            client.tag = '"none"'


def test_another_process_writes(kept_database: KeptDatabase) -> None:
    """On SQLite, what it wrote is unknown."""
    url, client = kept_database.url, Client()
    with closing(open_storage(url, FEATURES)) as one, closing(open_storage(url)) as other:
        process = Process(one)
        fill(one)
        client.ask(process)
        write(other, lambda writer: writer.put_rule_value(1, "2"))
        write(one, lambda writer: writer.put_rule_value(2, "2"))
        kind, sections = client.ask(process)
        assert kind == ("whole" if kept_database.name == "SQLite" else "partial")
        assert [sections[name] for name in "ab"] == [section((1, 2)), section((2, 2))]
        write(one, lambda writer: writer.put_rule_value(2, "3"))
        assert client.ask(process) == ("partial", {"b": section((2, 3))})


def test_sections_are_made_again_only_if_they_changed(
    process: Process, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, rules = list[list[str]](), Reader.rules

    def noted(reader: Reader, names: list[str], *more: Any, **options: Any) -> Any:
        if names:
            read.append(names)
        return rules(reader, names, *more, **options)

    monkeypatch.setattr(Reader, "rules", noted)
    client = Client()
    client.ask(process)
    write(storage, lambda writer: writer.put_rule_value(2, "2"))
    client.ask(process)
    client.since = client.tag = "unknown"
    assert client.ask(process)[0] == "whole"
    assert read == [["a", "b", "c"], ["b"]]


# --- the parts ------------------------------------------------------------------------------------


def test_changes_between_two_revisions() -> None:
    names = ChangedNames()
    names.add("1", "2", {"a"})
    names.add("2", "3", {"a", "b"})
    names.add("3", "4", set())
    assert names.between("1", "4") == {"a", "b"}
    assert names.between("1", "2") == {"a"}
    assert names.between("2", "3") == {"a", "b"}
    assert names.between("3", "4") == names.between("2", "2") == set()
    for old, new in (("0", "4"), ("1", "5"), ("2", "1"), ("4", "1")):
        assert names.between(old, new) is None, (old, new)


@pytest.mark.parametrize(
    "gap",
    [
        ("3", "4", {"b"}),  # another process committed before
        (None, "4", {"b"}),
        ("2", None, {"b"}),  # or perhaps after it
        ("2", "4", None),
    ],
)
def test_nothing_is_known_across_a_gap(gap: tuple[str | None, str | None, set[str] | None]) -> None:
    names = ChangedNames()
    names.add("1", "2", {"a"})
    names.add(*gap)
    names.add("4", "5", {"c"})
    names.add("5", "6", {"d"})
    assert names.between("1", "6") is None
    assert names.between("2", "6") is None
    assert names.between("4", "6") == {"c", "d"}


def test_the_last_thousand_changes_are_known() -> None:
    names = ChangedNames()
    for number in range(1_001):
        names.add(str(number), str(number + 1), {"a"})
    assert names.between("1", "1001") == {"a"}
    assert names.between("0", "1001") is None


def test_kept_sections_are_bounded() -> None:
    cache = SectionCache(max_forms=3, max_bytes=10_000)
    forms = [Form((Item(name, None),), with_metadata=False) for name in "abcde"]

    def use(form: Form, size: int = 0) -> bool:
        """Add a section of so many bytes, or none; return whether there was one."""
        with cache.using(form) as kept:
            had = "x" in kept.by_name
            kept.forget({"x"} if size else ())
            kept.add({"x": Section(b"x" * size)} if size else {})
        return had

    for form in forms[:3]:
        use(form, 100)
    use(forms[0])
    use(forms[3], 100)
    assert [use(form) for form in (forms[0], forms[2], forms[3], forms[1])] == [True] * 3 + [False]
    for _ in range(3):
        use(forms[4], 4_000)
    use(forms[0], 4_000)
    assert use(forms[4])
    use(forms[1], 4_000)
    assert [use(form) for form in (forms[4], forms[1], forms[0])] == [True, True, False]
    use(forms[2], 10_000)
    assert not use(forms[2])
