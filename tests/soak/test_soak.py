"""Half a minute of the soak. The long one is ``tox -e soak``."""

from __future__ import annotations

from run_soak import soak


def test_half_a_minute_of_changes_and_faults_harms_no_client() -> None:
    assert soak(minutes=0.5, seed=1, nap=0.2) == []
