"""A program that forks while one of its clients is not started, and another one is starting.

``python forking_early_program.py URL SILENT_URL`` prints a line for each step. The server at SILENT_URL
accepts connections and never answers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

from heksher import Setting, ThreadHeksherClient
from heksher.exceptions import ClientNotStartedError
from heksher.status import ClientState
from programs.forking_program import DEADLINE, FEATURES, fork, say

ttl = Setting("ttl", int, ["user"], 60)
ports: list[int] = []


def note_port(answer: Any) -> None:
    """Note the local port of the connection that an answer arrived on."""
    ports.append(answer.extensions["network_stream"].get_extra_info("client_addr")[1])


def child(young: ThreadHeksherClient, starting: ThreadHeksherClient) -> None:
    """Use both clients in the child."""
    young.ping()
    say(f"child: {'its parents' if ports[-1] in ports[:-1] else 'its own'} connection")
    try:
        starting.reload()
    except ClientNotStartedError:
        say("child: not started here")
    starting.close()
    young.set_as_main()
    say(f"child: get answers {ttl.get(user='jim')}")
    young.close()


def main(url: str, silent_url: str) -> None:
    """Fork while one client is not started and another one is starting."""
    signal.alarm(3 * DEADLINE)
    young = ThreadHeksherClient(
        url,
        60,
        FEATURES,
        startup="raise",
        http_client_args={"event_hooks": {"response": [note_port]}},
    )
    young.ping()
    starting = ThreadHeksherClient(silent_url, 60, FEATURES)
    thread = threading.Thread(target=start, args=[starting])
    thread.start()
    while starting.status.state is not ClientState.STARTING:
        time.sleep(0.001)
    fork_and_wait(young, starting)
    young.ping()
    say(f"parent: {len(set(ports))} connection")
    starting.close()
    thread.join()
    young.close()


def start(client: ThreadHeksherClient) -> None:
    """Start a client that is closed before it is ready."""
    try:
        client.set_as_main()
    except Exception as error:
        say(f"parent: {type(error).__name__}")


def fork_and_wait(young: ThreadHeksherClient, starting: ThreadHeksherClient) -> None:
    """Run the child, and print how it ended."""
    _, status = os.waitpid(fork(lambda: child(young, starting)), 0)
    say(f"child ended with {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
