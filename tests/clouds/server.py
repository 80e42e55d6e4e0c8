"""A key service over real HTTP: what it is asked, what it answers, and while it is away."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from certctl.pki.keys import PrivateKey, ecdsa_hash

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: Json


@dataclass(frozen=True)
class Said:
    body: Json
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def signature(key: PrivateKey, digest: bytes) -> bytes:
    """Over a digest, as services sign; over µ with ML-DSA."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(digest, ec.ECDSA(Prehashed(ecdsa_hash(key.curve))))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    return key.sign_mu(digest)  # type: ignore[union-attr]


class Server:
    """`fault` is what everybody is told instead of an answer, each after `seconds`."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Asked] = []
        self.fault: Said | None = None
        self.seconds = 0.0
        self._tls = tls
        self._lock = threading.Lock()
        self._listen(0)

    def answer(self, asked: Asked) -> Said:
        raise NotImplementedError

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @contextmanager
    def failing(self, said: Said) -> Iterator[None]:
        self.fault = said
        try:
            yield
        finally:
            self.fault = None

    @contextmanager
    def away(self) -> Iterator[None]:
        """While it lasts nobody listens there."""
        self.close()
        try:
            yield
        finally:
            self._listen(self._port)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _listen(self, port: int) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._serve(self)

            do_POST = do_PUT = do_GET

            def log_message(self, *words: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if self._tls is not None:
            self._http.socket = self._tls.wrap_socket(self._http.socket, server_side=True)
        self._port = self._http.server_address[1]
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        raw = handler.rfile.read(length)
        headers = {name.title(): value for name, value in handler.headers.items()}
        body = json.loads(raw) if raw.startswith(b"{") else {}
        asked = Asked(handler.command, handler.path, headers, body)
        time.sleep(self.seconds)
        with self._lock:
            self.seen.append(asked)
            said = self.fault or self.answer(asked)
        content = json.dumps(said.body).encode()
        with suppress(ConnectionError):  # Who asked may have given up.
            handler.send_response(said.status)
            for name, value in {"Content-Type": "application/json", **said.headers}.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)
