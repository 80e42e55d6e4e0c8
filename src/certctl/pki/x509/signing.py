"""The only way to a signature: linted bytes and a signer give a signed object."""

from __future__ import annotations

from certctl.domain.errors import Refused, Unavailable
from certctl.pki import der, keys
from certctl.pki.lint import Linted


def sign(linted: Linted, signer: keys.Signer) -> bytes:
    """The DER of the certificate or CRL. Raises as `signature` does."""
    return der.assemble(linted.tbs, linted.algorithm_der, signature(linted, signer))


def signature(linted: Linted, signer: keys.Signer) -> bytes:
    """The signature over `linted`, checked before it leaves here.

    Raises:
        Refused: when the signer holds another key than the one that the bytes were linted for.
        Unavailable: when the signer's answer does not verify, or it does not answer.
    """
    key = signer.public_key
    if keys.spki_sha256(key) != linted.key_sha256:
        raise Refused("the signer holds another key than the issuer's")
    signed = signer.sign(linted.tbs)
    if not keys.verifies(key, signed, linted.tbs):
        raise Unavailable("the signer returned a signature that does not verify")
    return signed
