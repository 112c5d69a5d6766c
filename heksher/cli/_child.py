"""Run the command ``heksher`` as a child process that ends when its parent does.

A parent that is killed cannot end its children. So it keeps the other end of this process's stdin, and
writes nothing to it: the system closes that end with the parent, however the parent ended. The command
then ends at once, without finishing its requests: their callers have ended, too.
"""

from __future__ import annotations

import os
import sys
import threading

from heksher.cli import main


def _end_with_parent() -> None:
    # Not sys.stdin: its lock would be held while the interpreter shuts down, which is a fatal error.
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main())
