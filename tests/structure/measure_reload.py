"""Count the function calls and the files that one `reload()` with one new rule passes through.

``PYTHONPATH=TREE python tests/structure/measure_reload.py`` prints both for the `heksher` in TREE, and the
calls by file. The client is a `ThreadHeksherClient`; the service runs in another process, so its calls do
not count. Calls in all threads count. Each resumption of a generator or coroutine counts as a call, since
the interpreter reports it as one.

It uses public names only, so that it runs on every state of the library.
"""

from __future__ import annotations

import collections
import sys
import threading
from pathlib import Path
from types import FrameType

import heksher
from heksher import Setting, ThreadHeksherClient
from heksher.testing.service import LiveService

PACKAGE = Path(heksher.__file__).parent


class Counter:
    """A profile function that counts calls of the library's functions.

    Attributes:
        calls: The number of calls by file; paths are relative to the package.
        is_on: Whether calls are counted now.
    """

    def __init__(self) -> None:
        self.calls: collections.Counter[str] = collections.Counter()
        self.is_on = False

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        """Handle an event of the interpreter."""
        if event == "call" and self.is_on:
            file = frame.f_code.co_filename
            if file.startswith(str(PACKAGE)):
                self.calls[str(Path(file).relative_to(PACKAGE))] += 1
            elif file.startswith("<heksher"):
                self.calls[file] += 1


def main() -> None:
    """Count and print."""
    counter = Counter()
    # Before the client starts, so that its threads have it as well.
    threading.setprofile(counter)
    sys.setprofile(counter)
    features = ["environment", "user"]
    ttl = Setting("cache_ttl", int, features, 60)
    with (
        LiveService(features, proxy=False) as service,
        ThreadHeksherClient(service.url, 3600, features, startup="raise") as client,
    ):
        client.reload()
        service.add_rule("cache_ttl", 5, user="jim")
        counter.is_on = True
        client.reload()
        counter.is_on = False
        assert ttl.get(environment="dev", user="jim") == 5
    sys.setprofile(None)
    print(f"{counter.calls.total()} calls in {len(counter.calls)} files")
    for file, calls in counter.calls.most_common():
        print(f"{calls:5} {file}")


if __name__ == "__main__":
    main()
