"""Checkpoints of the audit trail as signed bytes: canonical JSON under an Ed25519 signature.

Any tool that knows Ed25519 (RFC 8032) checks them: the signature is over the bytes of the file.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, fields
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from certctl.domain.errors import Invalid
from certctl.domain.trail import Checkpoint

KIND: Final = "certctl audit checkpoint"
VERSION: Final = 1


def payload(checkpoint: Checkpoint) -> bytes:
    """The bytes that are signed: JSON with sorted keys and no white space, in ASCII."""
    body = {"kind": KIND, "version": VERSION, **asdict(checkpoint)}
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def parse(data: bytes) -> Checkpoint:
    """The checkpoint in `data`.

    Raises:
        Invalid: when it is not the one spelling of a checkpoint of this version.
    """
    try:
        body: Any = json.loads(data)
        values = {field.name: body[field.name] for field in fields(Checkpoint)}
        found = Checkpoint(**values)
        numbers = (found.number, found.seal_number, found.last_sequence, found.row_count)
        same = payload(found) == data and all(type(each) is int for each in numbers)
    except (ValueError, KeyError, TypeError, RecursionError):
        same = False
    if not same:
        raise Invalid("this is no checkpoint of the audit trail, or of another version")
    return found


def public_pem(key: Ed25519PublicKey) -> str:
    """The key as SubjectPublicKeyInfo in PEM (RFC 8410)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def load_public(pem: bytes) -> Ed25519PublicKey:
    """Raises Invalid when `pem` holds no Ed25519 public key."""
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise Invalid("this is no Ed25519 public key in PEM")
    return key


def encoded(signature: bytes) -> str:
    """The signature as text, base64."""
    return base64.b64encode(signature).decode()


def decoded(text: str) -> bytes:
    """Raises Invalid when `text` is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Invalid("the signature of this checkpoint is not base64") from None


def verified(data: bytes, signature: bytes, *, key: Ed25519PublicKey) -> Checkpoint:
    """The checkpoint in `data`, whose signature `key` made.

    Raises:
        Invalid: when the signature does not fit, or `data` is no checkpoint.
    """
    try:
        key.verify(signature, data)
    except InvalidSignature:
        raise Invalid("the signature of this checkpoint does not fit the key") from None
    return parse(data)
