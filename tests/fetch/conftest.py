"""A venue on loopback: it answers what a test tells it to, with every fault that venues have."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass(frozen=True)
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    lacking: int = 0  # bytes that Content-Length promises too many
    delay: float = 0.0  # seconds before the answer
    drip: float = 0.0  # seconds between single bytes


NOWHERE = Reply(b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", 404)


class Venue:
    """Serves ``routes`` (a path, its query apart): a reply, or a list of which the last stays."""

    def __init__(self) -> None:
        self.routes: dict[str, Reply | list[Reply]] = {}
        self.default: Callable[[str, bytes], Reply] | None = None
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        venue = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                venue.answer(self, b"")

            def do_POST(self) -> None:
                venue.answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def reply(self, path: str, body: bytes) -> Reply:
        route = self.routes.get(path.partition("?")[0])
        if isinstance(route, list):
            route = route.pop(0) if len(route) > 1 else route[0]
        if route is None:
            return self.default(path, body) if self.default else NOWHERE
        return route

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.asked.append(handler.path)
        self.headers.append({k.lower(): v for k, v in handler.headers.items()})
        reply = self.reply(handler.path, body)
        time.sleep(reply.delay)
        try:
            handler.send_response(reply.status)
            for name, value in reply.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(reply.body) + reply.lacking))
            handler.end_headers()
            for piece in [reply.body] if not reply.drip else [bytes([b]) for b in reply.body]:
                handler.wfile.write(piece)
                handler.wfile.flush()
                time.sleep(reply.drip)
        except OSError:
            pass  # the client has gone, as it should
        handler.close_connection = True

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def venue() -> Iterator[Venue]:
    made = Venue()
    yield made
    made.close()


@pytest.fixture
def reply() -> type[Reply]:
    return Reply


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()
