"""TLS towards our own control plane, for the agent and the CLI alike."""

from __future__ import annotations

import ssl
from pathlib import Path


def client_context(ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.3 to a server vouched for by `ca_file`, or by the system's CAs without one.

    Raises:
        OSError: when the file cannot be read or holds no certificate (ssl.SSLError is one).
    """
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    if ca_file is not None:
        # The file's certificate is the anchor even when it is an intermediate.
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
