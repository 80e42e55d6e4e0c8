"""HAProxy: one PEM file of leaf, chain and key; the staple beside it, or by the runtime socket."""

from __future__ import annotations

import base64
import logging
import socket
from pathlib import Path
from typing import Final

from pydantic import Field

from certctl.connectors import files, target
from certctl.connectors.command import CommandText
from certctl.connectors.files import AbsolutePath, FileMode, PlannedFile
from certctl.connectors.reloaded import Proof, Reloaded, full_chain
from certctl.connectors.target import Bundle

log = logging.getLogger("certctl.agent")
TIMEOUT: Final = 10.0  # seconds
MOST: Final = 65_536  # bytes of an answer
DONE: Final = "OCSP Response updated"


class HaproxyFiles(target.Config):
    pem_path: AbsolutePath = Field(
        description="File of the `crt` option: the leaf, its chain, the private key"
    )
    staple: bool = Field(
        True,
        description="Keep `<pem_path>.ocsp` fresh, if the certificate names an OCSP responder",
    )
    stats_socket: AbsolutePath | None = Field(
        None,
        description="Admin socket to hand fresh staples over, without a reload; without it, "
        "`reload_command` is run",
    )
    validate_command: CommandText | None = Field(
        None, description="Tests the configuration: `haproxy -c -f /etc/haproxy/haproxy.cfg`"
    )
    reload_command: CommandText = Field(description="Loads it: `systemctl reload haproxy`")
    pem_file_mode: FileMode = Field(
        None, description='Such as "0640"; new files get 0600; the staple has it too'
    )
    pem_file_owner: str = Field("", description="User; empty keeps the present owner")
    pem_file_group: str = Field("", description="Group; empty keeps the present group")


class Haproxy(Reloaded):
    kind = "HAProxy"

    class Config(Proof, HaproxyFiles):
        """The files first, then the proof."""

    config: Config

    @property
    def commands(self) -> tuple[str | None, str]:
        return self.config.validate_command, self.config.reload_command

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.config.pem_path,)

    @property
    def staple_path(self) -> Path | None:
        path = self.config.pem_path
        return path.with_name(f"{path.name}.ocsp") if self.config.staple else None

    def files_of(self, bundle: Bundle) -> tuple[PlannedFile, ...]:
        """Without a staple an older one may stay: it is for another serial, and HAProxy ignores
        what does not fit the certificate."""
        whole = full_chain(bundle).encode() + bundle.key_pem
        pem = self._like_pem(self.config.pem_path, whole)
        return (pem,) if bundle.staple is None else (pem, self.staple_file(bundle.staple))

    def staple_file(self, response: bytes) -> PlannedFile:
        path = self.staple_path
        assert path is not None
        return self._like_pem(path, response)

    def put_staple(self, response: bytes) -> None:
        """By the socket where there is one; HAProxy takes a staple there only for a certificate
        that it has loaded with one, so that a refusal leads to the reload."""
        files.put(self.staple_file(response))
        path = self.config.stats_socket
        if path is not None:
            answer = _told(path, f"set ssl ocsp-response {base64.b64encode(response).decode()}\n")
            if DONE in answer:
                return
            log.warning("event=staple_not_taken socket=%s answer=%r", path, answer)
        self.reload()

    def _like_pem(self, path: Path, content: bytes) -> PlannedFile:
        c = self.config
        return PlannedFile(
            path,
            content,
            0o600,
            mode=c.pem_file_mode,
            owner=c.pem_file_owner,
            group=c.pem_file_group,
        )


def _told(path: Path, command: str) -> str:
    """What HAProxy answers to one command on its runtime socket, or why it does not."""
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX) as runtime:
            runtime.settimeout(TIMEOUT)
            runtime.connect(str(path))
            runtime.sendall(command.encode())
            while len(answer) < MOST and (more := runtime.recv(4096)):
                answer += more
    except OSError as error:
        return str(error)
    return answer.decode(errors="replace").strip()
