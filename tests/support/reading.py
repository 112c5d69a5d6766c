"""A section of an answer read and used as a whole, where the library goes through it bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from heksher import Setting
from heksher._client.reading import Ingested, Ingestion
from heksher._rules.tracking import Tracking
from heksher._wire import Section, Undecoded, open_section

T = TypeVar("T")


def read_section(raw: bytes | Undecoded) -> Section:
    """Decode a section with all its rules."""
    section = open_section(raw)
    batches = list(section.read())
    return Section(
        tuple(rule for batch in batches for rule in batch.rules),
        section.default_value,
        tuple(problem for batch in batches for problem in batch.problems),
    )


def ingest(
    setting: Setting[T], section: Section, features: Sequence[str], tracking: Tracking
) -> Ingested[T]:
    """Build the table of *setting* from a section that was read."""
    ingestion = Ingestion(setting, features, tracking)
    ingestion.add(section)
    return ingestion.finish(section.default_value)
