"""Where the server is, whom to trust there, and with which key: flag, environment, `client.toml`.

Nothing here imports more than the standard library, so that `--help` and lists start at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from certctl.domain.errors import Unsafe

DEFAULT_SERVER_URL: Final = "https://localhost:8443"
SERVER_URL: Final = "CERTCTL_SERVER_URL"
API_KEY: Final = "CERTCTL_API_KEY"
CA_BUNDLE: Final = "CERTCTL_SERVER_CA_BUNDLE_PATH"
DATA_DIR: Final = "CERTCTL_DATA_DIR"
DEFAULT_DATA_DIR: Final = "var"


@dataclass(frozen=True)
class Flags:
    """What the command line says; the key itself never stands there, where others could see it."""

    server: str | None = None
    ca_bundle: Path | None = None
    api_key_file: Path | None = None


@dataclass(frozen=True)
class Access:
    """A server, the CA file to trust (None: the system's CAs), and the key to show it."""

    server_url: str
    ca_file: Path | None = None
    api_key: str | None = field(default=None, repr=False)


def find(flags: Flags, environment: Mapping[str, str]) -> Access:
    """Each of the three by flag, then environment, then `client.toml`, then default.

    The key of `client.toml` goes only to the server of that file, or to one that its CA vouches
    for.

    Raises:
        Unsafe: naming the flag, the variable or the file that is not usable.
    """
    kept = _client_file(data_dir(environment))
    server, server_from = _first(
        ("--server", flags.server),
        (SERVER_URL, environment.get(SERVER_URL)),
        ("client.toml", kept.get("server_url")),
        ("default", DEFAULT_SERVER_URL),
    )
    ca_file, ca_from = _first(
        ("--ca-bundle", flags.ca_bundle),
        (CA_BUNDLE, environment.get(CA_BUNDLE)),
        ("client.toml", kept.get("ca_file")),
    )
    server_url = checked_url(str(server), server_from)
    vouched = "client.toml" in {server_from, ca_from} or server_url == kept.get("server_url")
    key_file = Path(kept["key_file"]) if vouched and "key_file" in kept else None
    return Access(
        server_url,
        Path(ca_file) if ca_file else None,
        _api_key(flags.api_key_file, environment.get(API_KEY), key_file),
    )


def data_dir(environment: Mapping[str, str]) -> Path:
    """The directory of the server's data, where it runs on this machine."""
    return Path(environment.get(DATA_DIR) or DEFAULT_DATA_DIR)


def checked_url(text: str, source: str) -> str:
    """`text` without a trailing slash, if it is an https URL of a host, a port and perhaps a path.

    Raises:
        Unsafe: naming `source`.
    """
    try:
        parts = urlsplit(text)
        fine = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise Unsafe(f"{source}: must be an https:// URL such as {DEFAULT_SERVER_URL}, not {text}")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Unsafe(f"{source}: must hold a host, a port and perhaps a path, nothing else")
    return text.rstrip("/")


def _first(*choices: tuple[str, Any]) -> tuple[Any, str]:
    """The first value that is given, and where; an empty one counts as absent."""
    return next(((value, source) for source, value in choices if value), (None, "default"))


def _api_key(flag: Path | None, given: str | None, kept: Path | None) -> str | None:
    if flag is not None:
        return _read_key(flag, "--api-key-file")
    if given and given.strip():
        return given.strip()
    return None if kept is None else _read_key(kept, "key_file in client.toml")


def _read_key(path: Path, source: str) -> str:
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unsafe(f"{source}: {path} cannot be read ({_reason(error)})") from error
    if not key.isascii() or not key.isprintable() or not key:
        raise Unsafe(f"{source}: {path} does not hold an API key on its one line")
    return key


def _client_file(folder: Path) -> dict[str, str]:
    path = folder / "client.toml"
    try:
        kept = tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise Unsafe(f"{path} cannot be read ({_reason(error)}); mend it or remove it") from error
    return {name: value for name, value in kept.items() if isinstance(value, str) and value}


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
