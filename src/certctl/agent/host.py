"""What the agent tells of its host; group rules of the control plane match on it."""

from __future__ import annotations

import platform
import socket
from urllib.parse import urlsplit

from certctl import __version__
from certctl.wire import Heartbeat

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def describe(server_url: str) -> Heartbeat:
    """Version, host name, system and the address from which `server_url` is reached."""
    machine = platform.machine().lower()
    return Heartbeat(
        version=__version__[:64],
        hostname=socket.gethostname()[:255],
        os=platform.system().lower()[:64],
        architecture=ARCHITECTURES.get(machine, machine)[:64],
        ip_address=_address(server_url),
    )


def _address(server_url: str) -> str:
    """The local address of the route to the server; no packet is sent."""
    parts = urlsplit(server_url)
    try:
        family, kind, _, _, where = socket.getaddrinfo(
            parts.hostname, parts.port or 443, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)
            return str(probe.getsockname()[0])[:45]
    except OSError:
        return ""
