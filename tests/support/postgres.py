"""A PostgreSQL server for the tests, from the binaries that are installed on this machine.

It listens on a Unix socket in its own folder and on no port, so it cannot collide with another server.
PostgreSQL refuses to run as root. If the tests run as root, it runs as an unprivileged user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

from support.service_process import DEADLINE

_USER = "heksher"
_READY = "database system is ready to accept connections"


def binaries() -> Path | None:
    """Return the folder with ``initdb`` and ``postgres``, of the newest version; None if there is none."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if _is_complete(path)]
    if found:
        return max(found, key=lambda path: int(path.parent.name))
    on_path = shutil.which("initdb")
    folder = Path(on_path).resolve().parent if on_path else None
    return folder if folder is not None and _is_complete(folder) else None


def _is_complete(folder: Path) -> bool:
    return (folder / "initdb").exists() and (folder / "postgres").exists()


class PostgresServer:
    """A server with its own data folder. Both are removed when the block ends.

    Args:
        fsync: whether a commit reaches the disk before it returns; tests that kill the server need this.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        found = binaries()
        assert found is not None, "PostgreSQL is not installed"
        self._binaries = found
        self._fsync = "on" if fsync else "off"
        # Not pytest's folder, which only its owner may enter. And the path of a socket has to be short.
        self._folder = Path(tempfile.mkdtemp(prefix="heksher-pg-", dir="/tmp"))
        self._user = _unprivileged_user()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> PostgresServer:
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        options = ["--username", _USER, "--auth", "trust", "--no-sync"]
        options += ["--encoding", "UTF8", "--locale", "C.UTF-8"]
        try:
            with self._spawn("initdb", *options) as process:
                _, errors = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0, f"initdb failed: {errors}"
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            if self._process is not None:
                self.stop(signal.SIGQUIT)  # the fastest way; its data is not needed any more
        finally:
            self._remove()

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        assert self._process is None, "it runs already"
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "fsync": self._fsync,
            "max_connections": "200",
            "lc_messages": "C",
            "logging_collector": "off",
        }
        self._process = self._spawn(
            "postgres", *(f"--{name}={value}" for name, value in settings.items())
        )
        assert self._process.stderr is not None
        self._log = _Log(self._process.stderr)
        if not self._log.says_ready():
            self.stop()
            raise AssertionError(f"PostgreSQL did not start: {self._log.text}")

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT closes connections in order, SIGQUIT ends it at once, like a crash."""
        assert self._process is not None, "it does not run"
        process, self._process = self._process, None
        process.send_signal(number)
        process.wait(DEADLINE)
        self._log.join()

    @contextmanager
    def standing_still(self) -> Generator[None]:
        """Suspend it: it keeps its connections, answers nothing and accepts no connection."""
        assert self._process is not None, "it does not run"
        with self.connect() as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity "
                "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchall()
        pids: list[int] = [self._process.pid, *(pid for (pid,) in found)]
        try:
            for pid in pids:
                with suppress(ProcessLookupError):  # it has ended since
                    os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def url(self, database: str) -> str:
        """Return the URL of *database* for the service."""
        return f"postgresql://{_USER}@/{database}?host={self._folder}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Return a new connection that commits each statement."""
        return psycopg.connect(host=str(self._folder), user=_USER, dbname=database, autocommit=True)

    def create_database(self, name: str, script: str | None = None) -> str:
        """Create a database, run *script* on it if given, and return its URL."""
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        if script is not None:
            with self.connect(name) as connection:
                connection.execute(script.encode())
        return self.url(name)

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        user = self._user
        return subprocess.Popen(
            [self._binaries / program, "-D", self._folder / "data", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )

    def drop_database(self, name: str) -> None:
        """Remove a database, even if it is in use."""
        with self.connect() as connection:
            statement = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(name)))

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class _Log:
    """A thread that reads the server's log, so that the server never blocks on a full pipe."""

    def __init__(self, pipe: IO[str]) -> None:
        self.text = ""
        self._pipe = pipe
        self._is_ready = False
        self._is_known = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def says_ready(self) -> bool:
        """Wait until the server accepts connections, or ends."""
        assert self._is_known.wait(DEADLINE), f"PostgreSQL is slow: {self.text}"
        return self._is_ready

    def join(self) -> None:
        """Wait until the log ends."""
        self._thread.join(DEADLINE)

    def _read(self) -> None:
        with self._pipe:
            for line in self._pipe:
                self.text += line
                if _READY in line:
                    self._is_ready = True
                    self._is_known.set()
        self._is_known.set()


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user to run the server as; None for the user that runs the tests."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None
