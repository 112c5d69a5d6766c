"""A program of greenlets, patched by gevent or not, that uses its client as a server's worker does.

``python gevent_program.py PATCH WHAT URL`` prints a line for each step. PATCH says when gevent patches
the process: ``first`` (before any other import), ``late`` (after heksher is imported) or ``never``;
``thread`` and ``socket`` patch only that part, late. WHAT is the name of a function below. The test
changes the rule from 1 to 2 when the program asks for it.
"""

from __future__ import annotations

import sys

PATCH, WHAT, URL = sys.argv[1:]

if PATCH == "first":
    from gevent import monkey

    monkey.patch_all()

import gc  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Callable  # noqa: E402
from contextvars import ContextVar  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from gevent import monkey  # noqa: E402

from heksher import Setting, ThreadHeksherClient  # noqa: E402
from heksher.backends import choose_blocking, run_blocking  # noqa: E402
from heksher.exceptions import BackendError  # noqa: E402

# Seconds. After them, the system ends a process that hangs.
DEADLINE = 60

FEATURES = ["environment", "user", "theme"]

ttl = Setting("ttl", int, ["user"], 60)
user: ContextVar[str] = ContextVar("user", default="nobody")


def say(text: str) -> None:
    """Write a line with one system call, since several processes write to the same pipe."""
    os.write(1, f"{text}\n".encode())


def make_client() -> ThreadHeksherClient:
    client = ThreadHeksherClient(
        URL, 0.1, FEATURES, backend="gevent" if PATCH == "never" else "auto", startup="raise"
    )
    client.track_contexts(user="jim")
    client.set_defaults(user=user)
    return client


def wait_for(value: int) -> None:
    """Return once the rule has *value*; the alarm ends a process that waits too long."""
    while ttl.get(user="jim") != value:
        gevent.sleep(0.001)


def loops() -> int:
    """Return the number of greenlets that run an update loop."""
    kind: Any = gevent.Greenlet
    greenlets = [each for each in gc.get_objects() if isinstance(each, kind)]
    return sum(each.name == "heksher-client" and not each.dead for each in greenlets)


def spawn(function: Callable[..., object], *arguments: object) -> Any:
    start: Any = gevent.spawn
    return start(function, *arguments)


def join(greenlets: list[Any]) -> None:
    """Wait until all of them end, and raise the first error of one."""
    gevent.joinall(greenlets, raise_error=True)


def life() -> None:
    """Start, read in many greenlets, reload in many, hold the lock, and close."""
    say(choose_blocking("auto").name)
    client = make_client()
    client.set_as_main()
    say(f"{loops()} loop")
    answers: set[tuple[str, int, int]] = set()

    def read(name: str) -> None:
        before = ttl.get()
        user.set(name)
        gevent.sleep(0)
        answers.add((name, before, ttl.get()))

    join([spawn(read, name) for name in ["jim", "joe"] * 1000])
    say(f"answers: {sorted(answers)}")
    reloads = [spawn(client.reload) for _ in range(100)]
    join(reloads)
    say(f"beside a busy pool: {beside_busy_pool(aside)}")
    other = ThreadHeksherClient(URL.replace("127.0.0.1", "localhost"), 60, FEATURES)
    say(f"looked up beside a busy pool: {beside_busy_pool(lambda: outcome(other.ping))}")
    other.close()
    with client.modification_lock:
        say("change the rule")
        held = spawn(client.reload)
        beats = beat()
        say(f"while the lock is held: {ttl.get(user='jim')}, {'gone on' if beats else 'stopped'}")
        held.kill()
    wait_for(2)
    say("the new rule arrived")
    in_native_thread(client.reload)
    in_native_thread(client.ping)
    in_native_thread(client.close)
    while any(thread.name.startswith("heksher") for thread in threading.enumerate()):
        gevent.sleep(0.001)
    say(f"{loops()} loops, and no thread")


def beat() -> int:
    for _ in range(100):
        gevent.sleep(0.001)
    return 100


def in_native_thread(function: Callable[[], object]) -> None:
    """Call it in a thread of gevent's pool, while the hub runs other greenlets."""
    gevent.get_hub().threadpool.apply(function)


def aside() -> str:
    """Use a thread as a client does for large answers."""
    return run_blocking(choose_blocking("gevent").in_thread(lambda: "done"))


def beside_busy_pool(function: Callable[[], str]) -> str:
    """Call it while the application's work occupies all threads of gevent's pool."""
    pool = gevent.get_hub().threadpool
    lock = monkey.get_original("_thread", "allocate_lock")()

    def wait() -> None:
        with lock:
            pass

    with lock:
        works = [pool.spawn(wait) for _ in range(pool.maxsize)]
        result = function()
    for work in works:
        work.get()
    return result


def file() -> None:
    """Read a file right after each of its changes, which takes several looks with pauses."""
    get_hub: Callable[[], object] = gevent.get_hub
    kind = type(get_hub())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "settings.toml")
        path.write_text("ttl = 0")
        client = ThreadHeksherClient(path.as_uri(), 60, FEATURES)
        client.set_as_main()
        for value in range(1, 6):
            path.write_text(f"ttl = {value}")
            client.reload()
            assert ttl.get(user=None) == value
        client.close()
        gc.collect()
        say(f"{sum(isinstance(each, kind) for each in gc.get_objects())} hub")


def forks() -> None:
    """Fork while greenlets wait for the client; they live on in the child, too."""
    client = make_client()
    client.set_as_main()
    lock = client.modification_lock
    lock.acquire()
    waiting = spawn(lock.acquire)
    reloading = spawn(outcome, client.reload)
    gevent.sleep(0)
    pid = fork()
    who = "parent" if pid else "child"
    lock.release()
    waiting.join()
    say(f"{who}: who waited has the lock")
    lock.release()
    say(f"{who}: the reload: {reloading.get()}")
    client.reload()
    say(f"{who}: {loops()} loop, get answers {ttl.get(user='jim')}")
    if pid == 0:
        say("change the rule")
        wait_for(2)
        say("child: the new rule arrived")
    else:
        wait_for(2)
        while is_alive(pid):
            gevent.sleep(0.01)
    client.close()
    gevent.sleep(0)
    say(f"{who}: {loops()} loops")


def forks_early() -> None:
    """Fork while a greenlet starts the client."""
    client = make_client()
    client.modification_lock.acquire()
    starting = spawn(outcome, client.set_as_main)
    beat()
    pid = fork()
    who = "parent" if pid else "child"
    client.modification_lock.release()
    say(f"{who}: the start: {starting.get()}")
    client.set_as_main()
    client.reload()
    say(f"{who}: {loops()} loop, get answers {ttl.get(user='jim')}")
    while pid and is_alive(pid):
        gevent.sleep(0.01)
    client.close()
    gevent.sleep(0)
    say(f"{who}: {loops()} loops")


def preload() -> None:
    """Start in a process with threads, and patch its child, as gunicorn does with `preload_app`."""
    say(choose_blocking("auto").name)
    client = make_client()
    client.set_as_main()
    pid = fork()
    if pid:
        os.waitpid(pid, 0)
        client.close()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", monkey.MonkeyPatchWarning)  # ssl is already imported
        monkey.patch_all()
    say(f"get answers {ttl.get(user='jim')}")
    say("change the rule")
    wait_for(2)
    say("the new rule arrived")
    reloads = [spawn(client.reload) for _ in range(10)]
    beat()
    join(reloads)
    say("reloads returned")
    client.ping()
    with client.modification_lock:
        say("the lock is had")
    client.close()
    say("closed")


def in_part() -> None:
    """Use a client where gevent has patched the threads or the sockets, and not both."""
    client = ThreadHeksherClient(URL, 60, FEATURES, startup="raise")
    say(choose_blocking("auto").name)
    try:
        client.set_as_main()
        reloads = [spawn(client.reload) for _ in range(10)]
        join(reloads)
        in_native_thread(client.ping)
        client.ping()
    except BackendError as error:
        say(str(error))
    else:
        say("done")
    client.close()


def fork() -> int:
    """Fork with gevent's function if it is patched, and otherwise with Python's own."""
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork with threads, which is what the test is about.
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        signal.alarm(DEADLINE)  # a child does not inherit its parent's alarm
    return pid


def is_alive(pid: int) -> bool:
    """Return whether a child process is alive, without blocking the hub."""
    return os.waitpid(pid, os.WNOHANG) == (0, 0)


def outcome(function: Callable[[], object]) -> str:
    """Call it, and return the name of the error that it raised, or "done"."""
    try:
        function()
    except Exception as error:
        return type(error).__name__
    return "done"


if __name__ == "__main__":
    if PATCH == "late":
        monkey.patch_all()
    elif PATCH in ("thread", "socket"):
        monkey.patch_all(thread=PATCH == "thread", socket=PATCH == "socket")
    signal.alarm(DEADLINE)
    globals()[WHAT]()
