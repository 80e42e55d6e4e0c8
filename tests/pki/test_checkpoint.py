"""Checkpoints are signed in one spelling that other programs can check."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certctl.domain.errors import Invalid
from certctl.pki import checkpoint as signed
from tests.audited import attested, rows, seals
from tests.tools import need

KEY = Ed25519PrivateKey.generate()
CHECKPOINT = attested(seals(rows(4), 4)[0])
DATA = signed.payload(CHECKPOINT)


def openssl_accepts(folder: Path, data: bytes) -> bool:
    (folder / "key.pem").write_text(signed.public_pem(KEY.public_key()))
    (folder / "c.json").write_bytes(data)
    (folder / "c.sig").write_bytes(KEY.sign(DATA))
    done = subprocess.run(
        [need("openssl"), "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pem",
         "-in", "c.json", "-sigfile", "c.sig"],
        cwd=folder, capture_output=True, check=False, timeout=30,
    )  # fmt: skip
    return done.returncode == 0


def test_openssl_verifies_a_checkpoint_and_refuses_a_changed_one(tmp_path: Path) -> None:
    assert openssl_accepts(tmp_path, DATA)
    assert not openssl_accepts(tmp_path, DATA.replace(b'"number":1', b'"number":2'))


def test_what_was_signed_comes_back() -> None:
    assert signed.verified(DATA, KEY.sign(DATA), key=KEY.public_key()) == CHECKPOINT


def test_another_key_is_refused() -> None:
    other = Ed25519PrivateKey.generate().public_key()
    with pytest.raises(Invalid, match="does not fit the key"):
        signed.verified(DATA, KEY.sign(DATA), key=other)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        DATA + b"\n",
        DATA.replace(b'"version":1', b'"version":2'),
        DATA.replace(b'"number":1', b'"number":true'),
        DATA.replace(b'"number":1', b'"number":1,"more":1'),
        b"[" * 100_000,
    ],
)
def test_what_is_no_checkpoint_is_refused_although_it_is_signed(data: bytes) -> None:
    with pytest.raises(Invalid, match="no checkpoint"):
        signed.verified(data, KEY.sign(data), key=KEY.public_key())


def test_a_key_of_another_kind_is_refused() -> None:
    other = generate_private_key(SECP256R1()).public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for text in (pem, b"no key"):
        with pytest.raises(Invalid, match="no Ed25519 public key"):
            signed.load_public(text)
