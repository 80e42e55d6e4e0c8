"""Whom the agent believes: TLS 1.3 to a known CA, and how that CA becomes known.

An enrolment token carries the SHA-256 of the CA to trust. At first contact the CA certificate is
fetched without verification and kept only if it is that one; nothing secret is sent before.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from pathlib import Path

import httpx

from certctl.connectors.tls import client_context
from certctl.domain.errors import Invalid, Unavailable, Unsafe
from certctl.pki.x509 import ders_of_pem, pem

FINGERPRINT = re.compile(r"[0-9a-f]{64}")
CA_PATH = "/api/v1/ca"
MAX_CA_BYTES = 256 * 1024
TIMEOUT = 30.0


def split_token(text: str) -> tuple[str, str | None]:
    """The token to send, and the fingerprint of the CA if one is attached."""
    token, _, fingerprint = text.strip().rpartition(".")
    if token and FINGERPRINT.fullmatch(fingerprint.lower()):
        return token, fingerprint.lower()
    return text.strip(), None


def tls_to(ca_file: Path | None, client_pair: Path | None = None) -> ssl.SSLContext:
    """TLS 1.3 towards a server vouched for by `ca_file`, or by the system's CAs, with the client
    certificate in `client_pair` if there is one.

    Raises:
        Unsafe: when a file holds no certificate.
    """
    try:
        context = client_context(ca_file)
        if client_pair is not None:
            context.load_cert_chain(client_pair)
        return context
    except OSError as error:
        raise Unsafe(
            f"{ca_file} holds no usable CA certificate ({error}); "
            "correct CERTCTL_SERVER_CA_BUNDLE_PATH or delete the file and enrol again"
        ) from error


async def fetch_ca(server_url: str, fingerprint: str) -> str:
    """PEM of the server's CA certificate, if its DER has this SHA-256 (lower hex).

    Raises:
        Unsafe: when the server shows another CA.
        Unavailable: when it does not answer.
    """
    try:
        ders = ders_of_pem(await _shown_ca(server_url))
    except Invalid as error:
        raise Unsafe(f"{server_url}{CA_PATH} shows no CA certificate: {error.message}") from error
    seen = {hashlib.sha256(der).hexdigest(): der for der in ders}
    if fingerprint not in seen:
        raise Unsafe(
            f"{server_url} shows the CA with SHA-256 {', '.join(seen)}, the enrolment token names "
            f"{fingerprint}: this is not the server the token was made for, or someone is "
            "between; nothing was sent to it"
        )
    return pem(seen[fingerprint])


async def _shown_ca(server_url: str) -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    body = b""
    try:
        async with (
            httpx.AsyncClient(verify=context, timeout=TIMEOUT) as client,
            client.stream("GET", server_url + CA_PATH) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise Unavailable(f"{server_url}{CA_PATH} answered {answer.status_code}")
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_CA_BYTES:
                    raise Unsafe(f"{server_url}{CA_PATH} answers with more than a CA certificate")
    except httpx.HTTPError as error:
        raise Unavailable(f"{server_url} did not answer: {error}") from error
    return body.decode(errors="replace")
