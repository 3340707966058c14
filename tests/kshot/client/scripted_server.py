"""A real server on loopback that misbehaves as it is told: each connection's request gets the next answer of a list."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """An answer; ``broken``: the connection ends after what is said here, though more is announced."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    broken: bool = False


DROP = Reply(status=0)
"""The connection is closed without an answer."""


@dataclass
class Heard:
    """What a request said."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedServer:
    """``heard``: the requests, in order."""

    url: str
    heard: list[Heard] = field(default_factory=list)


@contextmanager
def scripted_server(*replies: Reply) -> Iterator[ScriptedServer]:
    """A server with these answers, the last of which it gives to all further requests."""
    left = list(replies)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with lock:
                server.heard.append(Heard(self.command, self.path, dict(self.headers), body))
                reply = left.pop(0) if len(left) > 1 else left[0]
            self.close_connection = reply.broken or reply is DROP
            if reply is DROP:
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body) + 1000 * reply.broken))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = ScriptedServer(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
