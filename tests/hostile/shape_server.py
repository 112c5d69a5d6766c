"""A service that gives one hostile answer: ``shape_server.py SHAPE BYTES plain|gzip``.

It is a process of its own, and prints its port. Each answer is made once, so that it takes no time while
clients are watched.
"""

from __future__ import annotations

import gzip
import http.server
import sys

from shapes import HONEST, SHAPES


def main() -> None:
    name, size, coding = sys.argv[1:]
    shape = SHAPES[name]
    answers = {**HONEST, shape.path: shape.make(int(size))}
    if coding == "gzip":
        answers = {path: gzip.compress(body, 1) for path, body in answers.items()}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].removeprefix("/api/v1/")
            body = answers.get(path, b"{}")
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            if coding == "gzip" and path in answers:
                self.send_header("content-encoding", "gzip")
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
