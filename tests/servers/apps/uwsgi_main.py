"""uWSGI by a name that ``python -m`` knows."""

from __future__ import annotations

import pyuwsgi

pyuwsgi.run()  # pyright: ignore[reportUnknownMemberType]
