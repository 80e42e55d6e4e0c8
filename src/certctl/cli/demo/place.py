"""Where the demonstration keeps things, and on which loopback ports it is found."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certctl.cli.settings import DATA_DIR, DEFAULT_DATA_DIR
from certctl.domain.errors import Unsafe

TLS_PORT: Final = "CERTCTL_DEMO_TLS_PORT"
SERVER_HOST, SERVER_PORT = "CERTCTL_SERVER_HOST", "CERTCTL_SERVER_PORT"
EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104
# Deployment commands run without a shell and know no quoting.
UNQUOTABLE: Final = frozenset(" \t;|&$`(){}<>\\\"'\n\r#*?[]~")
LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """`data` is absolute; `server_url` is the management listener of our own server."""

    data: Path
    server_url: str
    tls_port: int

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def agent(self) -> Path:
        return self.data / "agent"

    @property
    def web(self) -> Path:
        """The web server's own: configuration, pid, log, temporary files, certificate and key."""
        return self.data / "nginx"

    @property
    def proofs(self) -> Path:
        """Certificates kept as files for the commands to repeat by hand."""
        return self.data / "demo"

    @property
    def ca_file(self) -> Path:
        return self.data / "ca.pem"

    @property
    def key_file(self) -> Path:
        return self.data / "admin.key"

    def prepare(self) -> None:
        """Make the folders, 0700 where they are new.

        Raises:
            Unsafe: when the data directory cannot be written.
        """
        try:
            for folder in (self.data, self.logs, self.web, self.proofs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise Unsafe(
                f"{DATA_DIR}: {self.data} cannot be written ({error.strerror}); "
                "name a directory of yours, or mend its owner or mode"
            ) from None


def find(data_dir: Path | None, environment: Mapping[str, str]) -> Place:
    """The place that the option or the environment names.

    Raises:
        Unsafe: for a path that deployment commands cannot name, or a port that is none.
    """
    data = (data_dir or Path(environment.get(DATA_DIR) or DEFAULT_DATA_DIR)).resolve()
    if bad := sorted(UNQUOTABLE & set(str(data))):
        shown = " ".join(repr(char)[1:-1] for char in bad if not char.isspace())
        what = "white space" if any(char.isspace() for char in bad) else shown
        raise Unsafe(
            f"{DATA_DIR}: {data} contains {what}, which the web server's commands cannot name; "
            "choose a path without it"
        )
    host = environment.get(SERVER_HOST) or LOOPBACK
    host = LOOPBACK if host in EVERY_ADDRESS else host
    shown = f"[{host}]" if ":" in host else host
    url = f"https://{shown}:{port(SERVER_PORT, environment, 8443)}"
    return Place(data, url, port(TLS_PORT, environment, 9443))


def port(name: str, environment: Mapping[str, str], default: int) -> int:
    """The port in the variable `name`; Unsafe when it is none."""
    text = environment.get(name) or str(default)
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= number <= 65535:
        raise Unsafe(f"{name}: must be a port from 1 to 65535, not {text}")
    return number


def check_free(number: int, name: str) -> None:
    """Raises Unsafe, naming the setting `name`, when the loopback port is taken."""
    try:
        socket.create_server((LOOPBACK, number)).close()
    except OSError as error:
        raise Unsafe(
            f"{name}: {LOOPBACK}:{number} cannot be used ({error.strerror}); "
            "stop what listens there or choose another port"
        ) from error
