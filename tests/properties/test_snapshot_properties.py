"""Properties of snapshots with any contents: they are read as they were written, or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from support.property_helpers import admits, modest

from heksher._client.snapshot import SnapshotData, SnapshotFile
from heksher._rules.tracking import TRACK_ALL, Tracking

# Fewer examples, since each of them writes a file.
few = settings(modest, max_examples=60)

WORDS = st.sampled_from(["a", "b", "c"])
#: Some values of each feature, or all values.
TRACKED = st.dictionaries(WORDS, st.lists(WORDS, max_size=3) | st.just(TRACK_ALL), max_size=3)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "Infinity" not in str(value) and "inf" not in str(value))


def new_file(folder: str) -> SnapshotFile:
    return SnapshotFile(f"{folder}/rules", "http://service.test/", ["a", "b"], 10**6)


@modest
@given(TRACKED, TRACKED)
def test_what_is_tracked_includes_what_passes_no_other_rule(
    one: dict[str, list[str] | str], other: dict[str, list[str] | str]
) -> None:
    wide, narrow = Tracking().adding(one), Tracking().adding(other)
    # "d" is a value that is never listed.
    values = ["a", "b", "c", "d"]
    single = [[(feature, value)] for feature in values for value in values]
    # Conditions are tested separately, so rules with one condition are enough.
    expected = all(admits(wide, rule) for rule in single if admits(narrow, rule))
    assert wide.includes(narrow) == expected


@few
@given(st.dictionaries(st.text(), JSON, max_size=4), TRACKED)
def test_it_comes_back_as_it_was(
    settings: dict[str, object], tracked: dict[str, list[str] | str]
) -> None:
    sections = {name: msgspec.json.encode(value) for name, value in settings.items()}
    tracking = Tracking().adding(tracked)
    with tempfile.TemporaryDirectory() as folder:
        assert new_file(folder).save(SnapshotData(sections, ["b", "a"], tracking))
        told = new_file(folder).load(tracking)
    assert told is not None
    assert told.sections == sections
    assert list(told.features) == ["b", "a"]


@few
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_byte_that_is_another_one_is_noticed(place: int, change: int) -> None:
    sections = {"ttl": b'{"default_value": 5, "rules": []}'}
    with tempfile.TemporaryDirectory() as folder:
        new_file(folder).save(SnapshotData(sections, ["a", "b"], Tracking()))
        path = Path(folder, "rules")
        written = bytearray(path.read_bytes())
        written[place % len(written)] ^= change
        path.write_bytes(written)
        file = new_file(folder)
        assert file.load(Tracking()) is None
        assert file.status.refused
