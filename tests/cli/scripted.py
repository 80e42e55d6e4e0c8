"""A small HTTPS server that answers as the test says: what the CLI sees of the API."""

from __future__ import annotations

import json
import ssl
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec

from certctl.web import app
from tests.connectors.kit import Authority, key_pem
from tests.web.kit import row_for

KEY = "key-of-the-test-0123456789"


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    bearer: str | None


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def is_a_route(method: str, path: str) -> bool:
    """Whether a real server has it."""
    public = any((method, path) in face.routes for face in app.FACES)
    return public or row_for(method, path) is not None


def problem(status: int, word: str, message: str, **more: Any) -> Answer:
    return Answer(status, {"error": word, "message": message, "request_id": "r-1", **more})


class Scripted:
    """`says` puts answers for a method and path; the last one is given again and again."""

    def __init__(self, folder: Path) -> None:
        self.seen: list[Seen] = []
        self.strange: list[str] = []
        self._answers: defaultdict[tuple[str, str], list[Answer]] = defaultdict(list)
        self.ca = Authority()
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(self.ca.pem)
        self.key_file = folder / "the.key"
        self.key_file.write_text(f"{KEY}\n")
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self.ca.issue(key.public_key(), "127.0.0.1", "localhost")
        pair = folder / "server.pem"
        from cryptography.hazmat.primitives.serialization import Encoding

        pair.write_bytes(leaf.public_bytes(Encoding.PEM) + key_pem(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(pair)
        self._server = _Server(self, context)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Scripted:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        assert not self.strange, f"no server has these routes: {self.strange}"

    def says(self, method: str, path: str, *answers: Answer | dict[str, Any]) -> None:
        full = path if path.startswith("/") else f"/api/v1/{path}"
        self._answers[method, full] += [
            answer if isinstance(answer, Answer) else Answer(200, answer) for answer in answers
        ]

    def answer(self, seen: Seen) -> Answer:
        self.seen.append(seen)
        if not is_a_route(seen.method, seen.path):
            self.strange.append(f"{seen.method} {seen.path}")
        waiting = self._answers.get((seen.method, seen.path))
        if not waiting:
            return problem(404, "not_found", f"{seen.path} does not exist")
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "CERTCTL_SERVER_URL": self.url,
            "CERTCTL_SERVER_CA_BUNDLE_PATH": str(self.ca_file),
            "CERTCTL_API_KEY": KEY,
            "CERTCTL_DATA_DIR": str(self.ca_file.parent / "nowhere"),
            "CERTCTL_OUTPUT": "",
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, script: Scripted, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script, self.context = script, context

    def finish_request(self, request, client_address) -> None:
        request.settimeout(5)
        with self.context.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)

    def handle_error(self, request, client_address) -> None:
        """A client that does not trust us leaves in the middle of the handshake."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _reply(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        text = self.rfile.read(length)
        seen = Seen(
            self.command,
            unquote(parts.path),
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            json.loads(text) if text else None,
            self.headers.get("Authorization"),
        )
        answer = self.server.script.answer(seen)
        body = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        data = b"" if answer.status == 204 else body.encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = _reply

    def log_message(self, format: str, *args: object) -> None:
        return
