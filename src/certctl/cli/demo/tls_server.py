"""The small TLS server of the demonstration, for machines without NGINX.

Serves one line of text. Like NGINX it reads certificate and key when it is told to (SIGHUP), and
can check them beforehand. Standard library only, since it is started for each check.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import ssl
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

BODY: Final = b"certctl demo\n"
ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
PATIENCE: Final = 10.0


def context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or newer with this pair; OSError (ssl.SSLError) when they do not load or match."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(cert, key)
    return made


class TlsServer:
    """Listens at once; serves from `run` until `stop`."""

    def __init__(self, cert: Path, key: Path, *, port: int) -> None:
        self._pair = (cert, key)
        self._context = context(cert, key)
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port: int = self._socket.getsockname()[1]

    def reload(self) -> None:
        """Serve what the files hold now; on an error the old pair stays."""
        try:
            self._context = context(*self._pair)
        except OSError as error:
            sys.stderr.write(f"reload refused: {error}\n")

    def stop(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def run(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(plain,), daemon=True).start()

    def _answer(self, plain: socket.socket) -> None:
        plain.settimeout(PATIENCE)
        with plain, suppress(OSError), self._context.wrap_socket(plain, server_side=True) as secure:
            request = b""
            while b"\r\n\r\n" not in request and len(request) < 8192:
                part = secure.recv(4096)
                if not part:
                    return
                request += part
            secure.sendall(ANSWER)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cert", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--port", type=int, default=9443)
    parser.add_argument("--pid-file", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="load the pair and end")
    parser.add_argument("--reload", action="store_true", help="tell the running one to reload")
    given = parser.parse_args(arguments)
    try:
        context(given.cert, given.key)
        if given.reload:
            os.kill(int(given.pid_file.read_text()), signal.SIGHUP)
        if given.check or given.reload:
            return 0
        server = TlsServer(given.cert, given.key, port=given.port)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    _serve(server, given.pid_file)
    return 0


def _serve(server: TlsServer, pid_file: Path) -> None:
    signal.signal(signal.SIGHUP, lambda *_: server.reload())
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    pid_file.write_text(str(os.getpid()))
    try:
        server.run()
    finally:
        pid_file.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
