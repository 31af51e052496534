"""Stands before an S3 server, counts what is asked of it, and makes it lag or fail where a test says so."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_ENTRY = re.compile(rb"<Contents>.*?</Contents>", re.DOTALL)
_CHANGED = re.compile(rb"<LastModified>([^<]+)</LastModified>")


@dataclass(frozen=True)
class Request:
    """One request to the server."""

    method: str
    """GET, PUT…; LIST for a GET that lists."""
    name: str
    """What it is about: the bucket and, after it, the object or the prefix."""


@dataclass
class S3Proxy:
    """The proxy's address, what came through it, and what it is to do."""

    endpoint: str
    requests: list[Request] = field(default_factory=list)
    lag: timedelta = timedelta()
    """Lists show nothing that is younger."""
    before: Callable[[Request], None] = lambda request: None
    """Called before a request is passed on; what it raises as ConnectionError ends the connection instead."""


@contextmanager
def s3_proxy(port: int) -> Iterator[S3Proxy]:
    """A proxy before the S3 server at this port of loopback; it passes the host's name on, so signatures stay valid."""
    proxy = S3Proxy("")

    class Handler(_Handler):
        target, state = port, proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target: int
    state: S3Proxy

    def handle(self) -> None:
        """Serve a client's connection; one that it broke off is none of ours."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = self._request()
        self.state.requests.append(request)
        connection = HTTPConnection("127.0.0.1", self.target, timeout=60)
        try:
            self.state.before(request)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body or None, headers, encode_chunked=False)
            answer = connection.getresponse()
            content = answer.read()
        except (ConnectionError, HTTPException):
            self.close_connection = True
            return
        finally:
            connection.close()
        if request.method == "LIST" and self.state.lag:
            content = _older(content, datetime.now(UTC) - self.state.lag)
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815 -- names that http.server looks for

    def _request(self) -> Request:
        parts = urlsplit(self.path)
        asked = parse_qs(parts.query, keep_blank_values=True)
        listing = self.command == "GET" and ("list-type" in asked or parts.path.count("/") == 1)
        name = unquote(parts.path).strip("/") + (f"/{asked.get('prefix', [''])[0]}" if listing else "")
        return Request("LIST" if listing else self.command, name)


def _older(listing: bytes, limit: datetime) -> bytes:
    """A list without the objects that changed after `limit`."""

    def kept(entry: re.Match[bytes]) -> bytes:
        changed = _CHANGED.search(entry[0])
        return entry[0] if changed and datetime.fromisoformat(changed[1].decode()) <= limit else b""

    return _ENTRY.sub(kept, listing)
