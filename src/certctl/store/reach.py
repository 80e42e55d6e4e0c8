"""What a failed or an unencrypted connection to the operator's database means, in words."""

from __future__ import annotations

from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

LOOPBACK: Final = ("localhost", "127.", "::1")
# What libpq says, and what mends it.
MENDS: Final = (
    ("does not match host name", "connect by a name that the server's certificate holds"),
    ("certificate verify failed", "sslrootcert must hold the CA of the server's certificate"),
    ("root certificate file", "name the file of the server's CA with sslrootcert"),
    ("no encryption", "add sslmode=verify-full and sslrootcert to it"),
    ("server does not support SSL", "switch TLS on at the server"),
    ("requires a valid client certificate", "add sslcert and sslkey to it"),
)


def unreachable(conninfo: str, error: psycopg.OperationalError) -> str:
    """One sentence with the server's place, libpq's reason and what mends it; no password."""
    parts = conninfo_to_dict(conninfo)
    reason = (str(error).splitlines() or ["no reason given"])[0]
    for name in ("password", "sslpassword"):
        if secret := parts.get(name):
            reason = reason.replace(str(secret), "…")
    mend = next((f"; {words}" for sign, words in MENDS if sign in reason), "")
    where = f"{parts.get('host', 'the local socket')}, database {parts.get('dbname', '')!r}"
    return f"The database named by CERTCTL_DATABASE_URL cannot be reached ({where}): {reason}{mend}"


def unencrypted(connection: psycopg.AsyncConnection[Any]) -> str | None:
    """A warning when this connection leaves the machine in clear; None when all is well."""
    host = connection.info.host
    if host.startswith(("/", *LOOPBACK)) or connection.pgconn.ssl_in_use:
        return None
    return (
        f"the connection to the database on {host} is not encrypted: add sslmode=verify-full and "
        "sslrootcert to CERTCTL_DATABASE_URL"
    )
