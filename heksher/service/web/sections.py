"""The sections of answers to queries, encoded, and kept until their settings change.

An answer has one section for each setting. After a change of one setting, only its section is made
again. Knows neither HTTP nor databases. Safe for threads.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from heksher.service.domain import filters

# Limits of the kept sections: the number of forms, and the size of all sections in bytes, where each
# takes some more than its text.
_MAX_FORMS = 1_000
_MAX_BYTES = 64 * 1024 * 1024
_OVERHEAD = 200


@dataclass(frozen=True, slots=True)
class Form:
    """The parts of a query that change sections.

    Attributes:
        items: the items of the filter, sorted by feature. None means all rules.
        with_metadata: whether the answer contains the metadata of rules.
    """

    items: tuple[filters.Item, ...] | None
    with_metadata: bool


class Section:
    """The section of one setting as JSON text, with its name, and a hash of this text."""

    __slots__ = ("digest", "text")

    text: bytes
    digest: bytes

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.digest = hashlib.blake2b(text, digest_size=16).digest()


@dataclass(slots=True)
class KeptSections:
    """The sections of one form.

    Attributes:
        revision: the name of a revision; no section is older. None: there are no sections.
        by_name: the sections by the names of their settings.
        size: their size in bytes.
    """

    revision: str | None = None
    by_name: dict[str, Section] = field(default_factory=dict[str, Section])
    size: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def forget(self, changed: Collection[str] | None) -> None:
        """Forget the sections of these settings. None means all."""
        if changed is None:
            self.by_name.clear()
            self.size = 0
            return
        for name in changed:
            section = self.by_name.pop(name, None)
            if section is not None:
                self.size -= _size(section)

    def add(self, sections: Mapping[str, Section]) -> None:
        """Add the sections of settings that have none."""
        self.by_name.update(sections)
        self.size += sum(map(_size, sections.values()))


def _size(section: Section) -> int:
    return len(section.text) + _OVERHEAD


class SectionCache:
    """The sections of all forms. The least recently used forms are evicted first."""

    def __init__(self, max_forms: int = _MAX_FORMS, max_bytes: int = _MAX_BYTES) -> None:
        self._max_forms = max_forms
        self._max_bytes = max_bytes
        self._guard = threading.Lock()
        self._forms = OrderedDict[Form, KeptSections]()

    @contextmanager
    def using(self, form: Form) -> Generator[KeptSections]:
        """Give the block the sections of *form*, which it may change. Others wait for it.

        So no two threads make the same sections.
        """
        with self._guard:
            kept = self._forms.setdefault(form, KeptSections())
        with kept.lock:
            yield kept
        with self._guard:
            self._forms[form] = kept  # another thread may have evicted it
            self._forms.move_to_end(form)
            size = sum(each.size for each in self._forms.values())
            while len(self._forms) > self._max_forms or size > self._max_bytes:
                size -= self._forms.popitem(last=False)[1].size
