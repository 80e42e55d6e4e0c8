"""The built-in issuer's first CA: an own root, or the CA of an enterprise root from files."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certctl.domain.access import system
from certctl.domain.errors import CertctlError, Unsafe
from certctl.pki import x509
from certctl.services import firststart, subordinate
from certctl.services.firststart import ISSUER_ID
from certctl.services.platform import Platform
from certctl.store import authorities

log = logging.getLogger("certctl.ca")
CERT_PATH: Final = "CERTCTL_CA_CERT_PATH"
KEY_PATH: Final = "CERTCTL_CA_KEY_PATH"
LARGEST: Final = 65536


@dataclass(frozen=True)
class Files:
    """A CA's certificate with the chain after it, and its private key, unencrypted; both PEM."""

    certificate: Path
    key: Path


async def first_cas(on: Platform, files: Files | None) -> None:
    """The CAs of the built-in issuer, where it has none. A tree that is there stays as it is, and
    the log says so where `files` hold another CA.

    Raises:
        Unsafe: when the files cannot be used for a first start.
    """
    async with on.db.read() as session:
        begun = await authorities.any_of(session, ISSUER_ID)
        outside = await authorities.any_signed_outside(session, ISSUER_ID)
    if not begun and files is not None:
        await _import(on, files)
        return
    if begun and files is not None:
        await _compare(on, files)
    if not outside:
        await firststart.authorities(on)


async def _import(on: Platform, files: Files) -> None:
    certificate = await asyncio.to_thread(_read, files.certificate, CERT_PATH)
    key = await asyncio.to_thread(_read, files.key, KEY_PATH)
    wish = subordinate.Import(ISSUER_ID, certificate, "", key)
    try:
        await subordinate.load(on, system("first-start"), wish)
    except CertctlError as error:
        words = f"{CERT_PATH} and {KEY_PATH} hold no CA that can be used: {error.message}"
        raise Unsafe(words) from error


async def _compare(on: Platform, files: Files) -> None:
    try:
        text = await asyncio.to_thread(_read, files.certificate, CERT_PATH)
        own = x509.ders_of_pem(text)[0]
    except CertctlError as error:
        log.warning("%s is left unused, the issuer has its CAs: %s", CERT_PATH, error.message)
        return
    async with on.db.read() as session:
        known = await authorities.of_certificate(session, ISSUER_ID, own)
    if known is None:
        log.warning(
            "the CA in %s is none of issuer %s, which keeps the CAs it has; bring it in with "
            "certctl ca import",
            CERT_PATH,
            ISSUER_ID,
        )


def _read(path: Path, variable: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Unsafe(f"{variable}: {path} cannot be read: {error.strerror}") from error
    if len(data) > LARGEST:
        raise Unsafe(f"{variable}: {path} is larger than {LARGEST // 1024} KiB")
    return data.decode("ascii", "replace")
