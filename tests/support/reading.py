"""Read a section of an answer at once; the library reads it in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from heksher import Setting
from heksher._client.reading import ReadResult, SectionReader
from heksher._rules.tracking import Tracking
from heksher._wire import Batch, RuleData, bounded, decode_section

T = TypeVar("T")


@dataclass(frozen=True)
class WholeSection:
    """A section with all its rules decoded."""

    rules: Sequence[RuleData]
    default_value: Any = None
    problems: Sequence[str] = ()


def read_section(raw: bytes) -> WholeSection:
    """Decode a section with all its rules."""
    section = decode_section(bounded(raw, "the section"))
    batches = list(section.batches)
    return WholeSection(
        tuple(rule for batch in batches for rule in batch.objects),
        section.default_value,
        tuple(problem for batch in batches for problem in batch.problems),
    )


def read_table(
    setting: Setting[T], section: WholeSection, features: Sequence[str], tracking: Tracking
) -> ReadResult[T]:
    """Build the table of *setting* from a section."""
    reader = SectionReader(setting, features, tracking)
    reader.add(Batch(section.rules, section.problems, len(section.problems)))
    return reader.finish(section.default_value)
