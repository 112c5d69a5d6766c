"""Programs that tests start as processes of their own.

A program may import other programs; the test that starts it then puts `tests/` on its import path.
"""

from pathlib import Path

#: The folder of the programs.
PROGRAMS = Path(__file__).parent
