"""What the server leaves in its data directory for the people beside it: how the CLI finds it,
the trust anchors, and, once, the first administrator's key."""

from __future__ import annotations

import json

from certctl.boot import keys
from certctl.settings import Settings

ADMIN_KEY = "admin.key"
ANCHOR = "ca.pem"
CLIENT = "client.toml"
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104


def leave_client_files(settings: Settings, anchors_pem: str) -> None:
    """The trust anchors and `client.toml`, written at each start, since ports may have changed, and
    whenever the anchors have."""
    anchor = settings.data_dir / ANCHOR
    keys.write_whole(anchor, anchors_pem.encode(), mode=0o644)
    host = settings.server_host
    host = "127.0.0.1" if host in EVERY_ADDRESS else f"[{host}]" if ":" in host else host
    client = {"server_url": f"https://{host}:{settings.server_port}"}
    if settings.server_tls_cert_path is None:
        client["ca_file"] = str(anchor.resolve())
    if (settings.data_dir / ADMIN_KEY).exists():
        client["key_file"] = str((settings.data_dir / ADMIN_KEY).resolve())
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in client.items())
    keys.write_whole(settings.data_dir / CLIENT, lines.encode(), mode=0o600)


def hand_over(settings: Settings, secret: str) -> None:
    """The first administrator's key: on the terminal this once, and in a private file."""
    path = settings.data_dir / ADMIN_KEY
    keys.write_whole(path, f"{secret}\n".encode(), mode=0o600)
    print(f"First administrator's key, shown this once (kept in {path}):\n{secret}", flush=True)
