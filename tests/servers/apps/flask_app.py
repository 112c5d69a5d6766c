"""Flask: the client starts where the application is made."""

from __future__ import annotations

from flask import Flask
from shop import answer, thread_client

thread_client().set_as_main()

app = Flask(__name__)


@app.get("/")
def index() -> dict[str, int]:
    """Return this process's id and its value."""
    return answer()
