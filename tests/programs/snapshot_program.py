"""A program that writes a snapshot again and again: ``python snapshot_program.py PATH SETTING TIMES``.

It says each number that was written, a line each. Several of it share one file, and may be killed.
"""

from __future__ import annotations

import sys

import msgspec

from heksher._client.snapshot import SnapshotData, SnapshotFile
from heksher._rules.tracking import Tracking

SERVICE = "http://service.test/"
FEATURES = ["environment", "user"]


def snapshot_file(path: str, url: str = SERVICE) -> SnapshotFile:
    """Return the file as a client has it."""
    return SnapshotFile(path, url.rstrip("/") + "/", FEATURES, 10**7)


def told(name: str, number: int) -> SnapshotData:
    """Return what an update is told of one setting. It takes a while to be written."""
    section = b'{"default_value": %d, "rules": [%s]}' % (number, b" " * 200_000)
    return SnapshotData({name: msgspec.Raw(section)}, FEATURES, Tracking())


def main(path: str, name: str, times: int) -> None:
    """Write the setting's number, which grows."""
    file = snapshot_file(path)
    for number in range(1, times + 1):
        # Where others were in the way too often, a client is told everything again later.
        while file.save(told(name, number)) and file.status.error is not None:
            pass
        print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
