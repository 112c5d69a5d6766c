"""The status of a client as text and as data."""

from __future__ import annotations

import json

import pytest

from heksher.status import (
    ClientState,
    ClientStatus,
    CoercedRule,
    DataSource,
    DeclarationState,
    DeclaredSetting,
    RejectedRule,
    SnapshotStatus,
)


class Unspeakable(Exception):
    """An error of an application that raises another one when it is converted to text."""

    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (ClientStatus(ClientState.NEW, None, 0, None), "new, never updated"),
        (ClientStatus(ClientState.RUNNING, 0.26, 0, None), "running, updated 0.3 s ago"),
        (
            ClientStatus(ClientState.RUNNING, 12.0, 3, ValueError("away")),
            "running, updated 12.0 s ago, 3 failures in a row: ValueError: away",
        ),
        (
            # The last error is kept, but says nothing about the present.
            ClientStatus(ClientState.CLOSED, 1.0, 0, ValueError("away")),
            "closed, updated 1.0 s ago",
        ),
        (
            ClientStatus(
                ClientState.RUNNING,
                1.0,
                0,
                None,
                {
                    "ttl": DeclaredSetting(DeclarationState.MISMATCH, refusal="it differs"),
                    "color": DeclaredSetting(DeclarationState.UPTODATE),
                    "gone": DeclaredSetting(DeclarationState.DELETED),
                },
                (RejectedRule("color", 4, "no str"),),
            ),
            "running, updated 1.0 s ago, declarations not accepted: ttl, deleted on the service: gone, "
            "1 rule not used",
        ),
        (
            ClientStatus(
                ClientState.RUNNING,
                1.0,
                0,
                None,
                {
                    name: DeclaredSetting(DeclarationState.MISMATCH, refusal="it differs")
                    for name in ("ttl", "color", "size")
                },
                # What has no number is a default value, a rule that cannot be read, or all of a section.
                (
                    RejectedRule("ttl", None, "default value: no int"),
                    RejectedRule("color", 4, "no str"),
                    RejectedRule("color", 5, "no str"),
                    RejectedRule("color", None, "the section: invalid JSON"),
                ),
            ),
            "running, updated 1.0 s ago, declarations not accepted: color, size and ttl, "
            "2 rules not used, part of the answer not used for color and ttl",
        ),
        (
            ClientStatus(
                ClientState.RUNNING,
                1.0,
                0,
                None,
                {
                    f"s{number}": DeclaredSetting(DeclarationState.DELETED)
                    for number in range(1000, 1030)
                },
                rejected_rules=(RejectedRule("s1000", 4, "no str"),),
                rejected_count=1_100_000,
            ),
            "running, updated 1.0 s ago, deleted on the service: "
            f"{', '.join(f's{number}' for number in range(1000, 1020))} and 10 more, "
            "1100000 rules not used",
        ),
        (
            ClientStatus(
                ClientState.RUNNING,
                1.0,
                0,
                None,
                rejected_rules=(RejectedRule("ttl", None, "default value: no int"),),
            ),
            "running, updated 1.0 s ago, part of the answer not used for ttl",
        ),
        (
            ClientStatus(
                ClientState.INHERITED,
                1.0,
                0,
                None,
                source=DataSource.SNAPSHOT,
                snapshot=SnapshotStatus("/rules", refused="it is damaged", error="disk full"),
            ),
            "inherited, updated 1.0 s ago, no updates in this process until the client is started "
            "in it, rules of the snapshot, snapshot not used: it is damaged, "
            "snapshot not written: disk full",
        ),
        (
            ClientStatus(ClientState.RUNNING, None, 1, Unspeakable()),
            "running, never updated, 1 failure in a row: Unspeakable: an error that cannot be shown",
        ),
    ],
    ids=[
        "new",
        "well",
        "failing",
        "closed",
        "refused",
        "parts",
        "many",
        "default",
        "snapshot",
        "unspeakable",
    ],
)
def test_a_status_reads_as_a_sentence(status: ClientStatus, text: str) -> None:
    assert str(status) == text


def test_settings_are_listed_by_outcome_and_refusals_by_name() -> None:
    status = ClientStatus(
        ClientState.RUNNING,
        None,
        0,
        None,
        {
            "b": DeclaredSetting(DeclarationState.UPTODATE),
            "c": DeclaredSetting(DeclarationState.REJECTED, "2.0", ("type differs",), "mend it"),
            "a": DeclaredSetting(DeclarationState.UPTODATE),
        },
    )
    assert status.settings == {
        DeclarationState.UPTODATE: ("a", "b"),
        DeclarationState.REJECTED: ("c",),
    }
    assert status.refusals == {"c": "mend it"}


def test_rules_that_are_not_used_as_they_are_read_as_sentences() -> None:
    assert (
        str(RejectedRule("ttl", 4, "'x' is not an int"))
        == "setting 'ttl': rule 4: 'x' is not an int"
    )
    assert str(RejectedRule("ttl", None, "default value: no int")) == (
        "setting 'ttl': default value: no int"
    )
    assert str(CoercedRule("sizes", 4, ("element 0: no int", "element 3: no int"))) == (
        "setting 'sizes': rule 4: element 0: no int; element 3: no int"
    )
    assert str(CoercedRule("sizes", None, ("element 0: no int",))) == (
        "setting 'sizes': default value: element 0: no int"
    )


def test_all_of_a_status_goes_into_json_whatever_is_in_it() -> None:
    status = ClientStatus(
        ClientState.RUNNING,
        2.5,
        3,
        Unspeakable(),
        {
            "\udc80\x00": DeclaredSetting(DeclarationState.UPTODATE),
            "b": DeclaredSetting(DeclarationState.UPGRADED, "1.0", ("type differs",)),
            "c": DeclaredSetting(DeclarationState.FAILED, refusal="HTTP 500"),
            "d": DeclaredSetting(DeclarationState.PENDING),
        },
        (RejectedRule("b", 4, "no str", ValueError("x")),),
        (CoercedRule("b", None, ("element 0: no int",)),),
        DataSource.SERVICE,
        1e9,
        2e9,
        7,
        1234,
        SnapshotStatus("/rules", is_loaded=True, written=1e9),
        rejected_count=1,
        coerced_count=1,
        overrides=("a",),
    )
    assert json.loads(json.dumps(status.as_dict())) == {
        "state": "running",
        "source": "service",
        "is_ready": True,
        "staleness": 2.5,
        "last_success": 1e9,
        "last_failure": 2e9,
        "failures": 3,
        "last_error": "Unspeakable: an error that cannot be shown",
        "polls": 7,
        "bytes_received": 1234,
        "settings": {
            "upgraded": ["b"],
            "uptodate": ["\udc80\x00"],
            "failed": ["c"],
            "pending": ["d"],
        },
        "pending": ["c", "d"],
        "differences": {"b": ["type differs"]},
        "refusals": {"c": "HTTP 500"},
        "rejected_count": 1,
        "rejected_rules": [{"setting": "b", "rule_id": 4, "reason": "no str"}],
        "coerced_count": 1,
        "coerced_rules": [{"setting": "b", "rule_id": None, "coercions": ["element 0: no int"]}],
        "overrides": ["a"],
        "overrides_error": None,
        "snapshot": {
            "path": "/rules",
            "is_loaded": True,
            "written": 1e9,
            "refused": None,
            "error": None,
        },
    }
    assert json.dumps(ClientStatus(ClientState.NEW, None, 0, None).as_dict())


def test_the_texts_of_a_hundred_settings_are_shown_and_the_names_of_all() -> None:
    names = [f"s{number}" for number in range(1000, 1150)]
    declared = DeclaredSetting(DeclarationState.MISMATCH, "1.0", ("type differs",), "it differs")
    status = ClientStatus(
        ClientState.RUNNING, 1.0, 0, None, dict.fromkeys(reversed(names), declared)
    )
    shown = status.as_dict()
    assert [*shown["refusals"]] == [*shown["differences"]] == names[:100]
    assert shown["settings"] == {"mismatch": names}
    assert len(status.refusals) == 150
