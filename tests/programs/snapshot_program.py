"""A program that writes a snapshot again and again: ``python snapshot_program.py PATH SETTING TIMES``.

It prints each number that it wrote on a line of its own. Several of these programs share one file, and
tests kill them.
"""

from __future__ import annotations

import sys

from heksher._client.snapshot import SnapshotData, SnapshotFile
from heksher._rules.tracking import Tracking

SERVICE = "http://service.test/"
FEATURES = ["environment", "user"]


def snapshot_file(path: str, url: str = SERVICE) -> SnapshotFile:
    """Return the file as a client opens it."""
    return SnapshotFile(path, url.rstrip("/") + "/", FEATURES, 10**7)


def snapshot_data(name: str, number: int) -> SnapshotData:
    """Return what an update received for one setting. It is large, so that writing it takes a while."""
    section = b'{"default_value": %d, "rules": [%s]}' % (number, b" " * 200_000)
    return SnapshotData({name: section}, FEATURES, Tracking())


def main(path: str, name: str, times: int) -> None:
    """Write increasing numbers for the setting."""
    file = snapshot_file(path)
    for number in range(1, times + 1):
        # If other programs were in the way too often, try again; a client saves with its next update.
        while file.save(snapshot_data(name, number)) and file.status.error is not None:
            pass
        print(number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
