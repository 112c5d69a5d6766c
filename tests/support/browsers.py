"""Open pages of several origins in a real browser, and learn what they could do to a service.

The pages come from a server of the test. Everything else that they ask their own origin for, this server
passes on to the service, with all headers as the browser sent them. So a page whose name is not the
service's meets what an attacker gets by DNS rebinding, where the page's name leads to the service as soon
as the page is loaded; and a page at ``localhost`` meets what the service's own pages do.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from heksher.testing.service import DEADLINE

# A name that both browsers are told to look up as 127.0.0.1.
STRANGER = "stranger.test"

_FIREFOX_PREFERENCES: Mapping[str, object] = {
    "network.dns.localDomains": STRANGER,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}

# What a page does, in JavaScript, and says afterwards: for each attempt by its name, the status and the
# text of the answer, or what the browser said instead.
_PAGE = """\
<!DOCTYPE html>
<meta charset="utf-8">
<script>
const attempts = ATTEMPTS;

async function attempt({how, url, options}) {
  if (how === "beacon") {
    return String(navigator.sendBeacon(url, new Blob([options.body])));
  }
  if (how === "form") {
    const frame = document.createElement("iframe");
    frame.name = "frame";
    document.body.append(frame);
    const form = document.createElement("form");
    const [name, value] = options.body.split("=");
    Object.assign(form, {action: url, method: "post", enctype: "text/plain", target: "frame"});
    const field = Object.assign(document.createElement("input"), {name, value});
    form.append(field);
    document.body.append(form);
    const loaded = new Promise(resolve => { frame.onload = resolve; });
    form.submit();
    await loaded;
    return "sent";
  }
  // A Blob without a type is sent without a content type; text would be sent as text/plain.
  const body = options.bare ? new Blob([options.body]) : options.body;
  const response = await fetch(url, {...options, body});
  return response.type === "opaque" ? "sent" : `${response.status} ${await response.text()}`;
}

addEventListener("load", async () => {
  const came = {};
  for (const [name, each] of Object.entries(attempts)) {
    came[name] = await attempt(each).catch(error => `${error}`);
  }
  const answer = await fetch("/report", {method: "POST", body: JSON.stringify(came)});
  const next = await answer.text();
  if (next) location = next;
});
</script>
<body></body>
"""

Attempts: TypeAlias = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Browser:
    """A browser on this machine: its kind, and the path of its program."""

    kind: str
    program: str

    def command(self, folder: Path, url: str) -> list[str]:
        """Return the command that opens *url* without a window, with all that it keeps in *folder*."""
        if self.kind == "firefox":
            lines = [
                f"user_pref({json.dumps(name)}, {json.dumps(value)});"
                for name, value in _FIREFOX_PREFERENCES.items()
            ]
            (folder / "user.js").write_text("\n".join(lines))
            return [self.program, "--headless", "--no-remote", "--profile", str(folder), url]
        return [
            self.program,
            "--headless",
            "--no-sandbox",  # it refuses to run as root with one
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--remote-debugging-port=0",  # without this it ends as soon as the page is loaded
            f"--host-resolver-rules=MAP {STRANGER} 127.0.0.1",
            f"--user-data-dir={folder}",
            url,
        ]


def found_browser(kind: str) -> Browser | None:
    """Return a browser of this kind, or None if the machine has none."""
    names = {
        "chromium": ("chromium", "chromium-browser", "google-chrome"),
        "firefox": ("firefox-esr", "firefox"),
    }[kind]
    for name in names:
        program = shutil.which(name)
        if program is not None:
            return Browser(kind, program)
    return None


def visit(
    browser: Browser, folder: Path, service_url: str, pages: Sequence[tuple[str, Attempts]]
) -> list[dict[str, str]]:
    """Open one page after another, each at a host name, and return what came of its attempts."""
    with _serving(service_url, pages) as (first_url, reports):
        process = subprocess.Popen(
            browser.command(folder, first_url),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that its children end with it
            env=os.environ | {"HOME": str(folder)},
        )
        try:
            return [reports.get(timeout=DEADLINE) for _ in pages]
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(DEADLINE)


@contextmanager
def _serving(
    service_url: str, pages: Sequence[tuple[str, Attempts]]
) -> Generator[tuple[str, queue.Queue[dict[str, str]]]]:
    """Serve the pages while the block runs; yield the URL of the first one, and their reports."""
    reports: queue.Queue[dict[str, str]] = queue.Queue()
    left = list(range(1, len(pages)))
    service = urlsplit(service_url).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.startswith("/page/"):
                _, attempts = pages[int(self.path.removeprefix("/page/"))]
                self._answer(_PAGE.replace("ATTEMPTS", json.dumps(attempts)).encode(), "text/html")
            else:
                self._pass_on()

        def do_POST(self) -> None:
            if self.path != "/report":
                self._pass_on()
                return
            reports.put(json.loads(self._body()))
            self._answer(url_of(left.pop(0)).encode() if left else b"", "text/plain")

        def do_DELETE(self) -> None:
            self._pass_on()

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("content-length", 0)))

        def _pass_on(self) -> None:
            connection = http.client.HTTPConnection(service, timeout=DEADLINE)
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(self._body())
            answer = connection.getresponse()
            content = answer.read()
            self._answer(content, answer.getheader("content-type", ""), answer.status)
            connection.close()

        def _answer(self, content: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            if status != 204:
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def url_of(number: int) -> str:
        return f"http://{pages[number][0]}:{server.server_port}/page/{number}"

    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield url_of(0), reports
    finally:
        server.shutdown()
        server.server_close()
        thread.join(DEADLINE)
