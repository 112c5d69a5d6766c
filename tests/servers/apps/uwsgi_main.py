"""uWSGI as a module for ``python -m``."""

from __future__ import annotations

import pyuwsgi

pyuwsgi.run()  # pyright: ignore[reportUnknownMemberType]
