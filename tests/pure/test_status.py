"""How a client says how it is doing."""

from __future__ import annotations

import pytest

from heksher.status import (
    ClientState,
    ClientStatus,
    CoercedRule,
    DeclarationState,
    DeclaredSetting,
    RejectedRule,
)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (ClientStatus(ClientState.NEW, None, 0, None), "new, never updated"),
        (ClientStatus(ClientState.RUNNING, 0.26, 0, None), "running, updated 0.3 s ago"),
        (
            ClientStatus(ClientState.RUNNING, 12.0, 3, ValueError("away")),
            "running, updated 12.0 s ago, 3 failures in a row: away",
        ),
        (
            # The newest failure stays to be seen, and says nothing of now.
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
    ],
    ids=["new", "well", "failing", "closed", "refused"],
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
    assert str(RejectedRule("ttl", 4, "'x' is no int")) == "setting 'ttl': rule 4: 'x' is no int"
    assert str(RejectedRule("ttl", None, "default value: no int")) == (
        "setting 'ttl': default value: no int"
    )
    assert str(CoercedRule("sizes", 4, ("element 0: no int", "element 3: no int"))) == (
        "setting 'sizes': rule 4: element 0: no int; element 3: no int"
    )
    assert str(CoercedRule("sizes", None, ("element 0: no int",))) == (
        "setting 'sizes': default value: element 0: no int"
    )
