"""Keys in a PKCS#11 token: made there, found again, used, and what happens while it is away."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.connectors.signers.lane import Lane
from certctl.connectors.signers.pkcs11 import Token
from certctl.domain.errors import Unavailable, Unsafe
from certctl.pki import keys
from certctl.pki.keys import KeyAlgorithm
from tests.pki.made import OPENSSL_KNOWS, openssl
from tests.softhsm import Soft

P256 = KeyAlgorithm.ECDSA_P256
SOON = timedelta(seconds=1)


@pytest.mark.parametrize("algorithm", OPENSSL_KNOWS)
async def test_a_key_of_every_kind_signs_as_openssl_expects(
    soft: Soft, tmp_path: Path, algorithm: KeyAlgorithm
) -> None:
    token = soft.open(timeout=timedelta(minutes=1))
    public = await token.run(token.make, "ica-1", algorithm)
    assert f"{algorithm}".startswith(keys.key_facts(public).algorithm)
    signature = await token.run(token.signer("ica-1", public).sign, b"these bytes")
    (tmp_path / "key.der").write_bytes(keys.spki(public))
    (tmp_path / "signature").write_bytes(signature)
    (tmp_path / "data").write_bytes(b"these bytes")
    digest = {"ECDSA-P384": ("-digest", "sha384"), "Ed25519": ()}
    said = openssl(
        "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", tmp_path / "key.der",
        "-rawin", *digest.get(algorithm, ("-digest", "sha256")),
        "-in", tmp_path / "data", "-sigfile", tmp_path / "signature",
    )  # fmt: skip
    assert "Signature Verified Successfully" in said.stdout


async def test_a_key_is_made_once_and_can_never_leave_the_token(soft: Soft) -> None:
    first, second = soft.open(), soft.open()
    made = await first.run(first.make, "ica-1", P256)
    assert await first.run(first.make, "ica-1", P256) == made
    assert await second.run(second.make, "ica-1", P256) == made
    listed = soft.listed()
    assert listed.count("Private Key Object; EC") == listed.count("Public Key Object; EC") == 1
    assert "sensitive, always sensitive, never extractable" in listed
    assert listed.count("ica-1") == 2


async def test_a_signer_tells_whether_the_same_bytes_get_the_same_signature(soft: Soft) -> None:
    token = soft.open()
    for algorithm in (P256, KeyAlgorithm.RSA_2048, KeyAlgorithm.ED25519):
        signer = token.signer(algorithm, await token.run(token.make, algorithm, algorithm))
        twice = [await token.run(signer.sign, b"these bytes") for _ in range(2)]
        assert (twice[0] == twice[1]) == signer.repeats


async def test_a_token_that_was_away_is_used_again_without_a_restart(soft: Soft) -> None:
    token = soft.open()
    public = await token.run(token.make, "ica-1", P256)
    signer = token.signer("ica-1", public)
    with soft.away():
        for _ in range(2):
            with pytest.raises(Unavailable, match=f"{soft.label} cannot be used"):
                await token.run(signer.sign, b"x")
    assert keys.verifies(public, await token.run(signer.sign, b"x"), b"x")


async def test_a_key_that_is_not_in_the_token_is_missed_in_words(soft: Soft) -> None:
    token = soft.open()
    public = await token.run(token.make, "ica-1", P256)
    with pytest.raises(Unavailable, match="holds no key of ica-2"):
        await token.run(token.signer("ica-2", public).sign, b"x")


async def test_a_wrong_pin_is_tried_once(soft: Soft) -> None:
    token = soft.open(pin="not this one")
    for _ in range(2):
        with pytest.raises(Unavailable, match="refuses CERTCTL_PKCS11_PIN"):
            await token.run(token.make, "ica-1", P256)
    token = Token(soft.module, "no such token", pin="1234", timeout=SOON)
    with pytest.raises(Unavailable, match="no such token"):
        await token.run(token.make, "ica-1", P256)


def test_what_is_missing_stops_the_start(soft: Soft, monkeypatch, tmp_path: Path) -> None:
    with pytest.raises(Unsafe, match="CERTCTL_PKCS11_MODULE: there is no file"):
        Token(tmp_path / "none.so", "a", pin="1234", timeout=SOON)
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(Unsafe, match=r"certctl\[pkcs11\]"):
        soft.open()


async def test_a_call_that_hangs_is_given_up_and_the_next_is_refused_at_once() -> None:
    lane, leave = Lane("the token", SOON), threading.Event()
    with pytest.raises(Unavailable, match="the token does not answer within 1 s"):
        await lane(leave.wait, 60)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not answer"):
        await lane(bytes)
    assert time.monotonic() - began < 0.5
    leave.set()
    assert await _answer(lane) == b""


async def _answer(lane: Lane) -> bytes:
    for _ in range(100):
        try:
            return await lane(bytes)
        except Unavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("the lane stays closed")


async def test_work_that_nobody_waits_for_any_more_is_not_begun() -> None:
    lane, leave, begun = Lane("the token", SOON), threading.Event(), []
    waits = (lane(leave.wait, 60), lane(begun.append, 1))
    ended = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(each) for each in ended] == [Unavailable, Unavailable]
    leave.set()
    assert await _answer(lane) == b""
    assert begun == []


async def test_what_work_raises_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        await Lane("the token", SOON)(divmod, 1, 0)
