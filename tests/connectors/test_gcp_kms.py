"""Keys in Google Cloud KMS: made once, used by digest, and what its refusals become."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta

import pytest

from certctl.connectors.signers.gcp_kms import ALGORITHMS, GcpKms, crc32c
from certctl.domain.errors import Refused, Unavailable, Unsafe
from certctl.pki import keys
from certctl.pki.keys import KeyAlgorithm
from tests.clouds.gcp import RING, SECRET, Gcp, refusal
from tests.clouds.gcp import gcp as gcp

P256 = KeyAlgorithm.ECDSA_P256
LONG = b"a long CRL" * 10_000


def test_the_checksum_is_that_of_the_published_vectors() -> None:
    """RFC 3720 §B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_key_of_every_kind_signs_what_is_longer_than_a_message(
    gcp: Gcp, algorithm: KeyAlgorithm
) -> None:
    home = gcp.open(timeout=timedelta(seconds=20))
    public = await home.run(home.make, "ica-1", algorithm)
    assert f"{algorithm}".startswith(keys.key_facts(public).algorithm)
    signer = home.signer("ica-1", public)
    once, again = [await home.run(signer.sign, LONG) for _ in range(2)]
    assert keys.verifies(public, once, LONG)
    assert (once == again) == signer.repeats


async def test_a_key_is_made_once_also_by_two_replicas_at_once(gcp: Gcp) -> None:
    homes = [gcp.open() for _ in range(2)]
    gcp.seconds = 0.2  # both have asked for the key before either has made it
    made = await asyncio.gather(*(each.run(each.make, "ica-1", P256) for each in homes))
    gcp.seconds = 0.0
    assert made[0] == made[1] == await homes[0].run(homes[0].make, "ica-1", P256)
    assert list(gcp.keys) == ["ica-1"]


async def test_a_key_is_waited_for_while_it_is_generated_but_not_for_ever(gcp: Gcp) -> None:
    home = gcp.open()
    gcp.pending = 3
    assert await home.run(home.make, "ica-1", P256)
    brief = gcp.open(timeout=timedelta(seconds=2))
    gcp.pending = 1000
    with pytest.raises(Unavailable, match="is PENDING_GENERATION: try again"):
        await brief.run(brief.make, "ica-2", P256)
    gcp.pending = 0
    assert await home.run(home.make, "ica-2", P256)
    assert list(gcp.keys) == ["ica-1", "ica-2"]


async def test_a_signature_that_was_damaged_on_its_way_is_not_taken(gcp: Gcp) -> None:
    home = gcp.open()
    public = await home.run(home.make, "ica-1", P256)
    gcp.damaged = True
    with pytest.raises(Unavailable, match="damaged on its way"):
        await home.run(home.signer("ica-1", public).sign, b"x")


@pytest.mark.parametrize(
    ("status", "code", "error", "words"),
    [
        ("PERMISSION_DENIED", 403, Unavailable, "forbids cloudkms.cryptoKeyVersions.useToSign on"),
        ("NOT_FOUND", 404, Unavailable, "the key ica-1 in Google Cloud KMS, or its key ring"),
        ("FAILED_PRECONDITION", 400, Unavailable, "is its version 1 enabled"),
        ("INVALID_ARGUMENT", 400, Refused, "refuses cloudkms.cryptoKeyVersions.useToSign on"),
        ("RESOURCE_EXHAUSTED", 429, Unavailable, "RESOURCE_EXHAUSTED"),
        ("UNAVAILABLE", 503, Unavailable, "cannot be used|UNAVAILABLE"),
    ],
)
async def test_a_refusal_is_told_in_words_of_ours(
    gcp: Gcp, status: str, code: int, error: type[Exception], words: str
) -> None:
    home = gcp.open(timeout=timedelta(seconds=4))
    public = await home.run(home.make, "ica-1", P256)
    with gcp.failing(refusal(status, code)), pytest.raises(error, match=words) as told:
        await home.run(home.signer("ica-1", public).sign, b"x")
    assert SECRET not in str(told.value)
    assert keys.verifies(public, await home.run(home.signer("ica-1", public).sign, b"x"), b"x")


async def test_credentials_that_come_later_are_found(
    gcp: Gcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = gcp.open()
    with monkeypatch.context() as without:
        without.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere")
        with pytest.raises(Unavailable, match="DefaultCredentialsError"):
            await home.run(home.make, "ica-1", P256)
    assert await home.run(home.make, "ica-1", P256)


async def test_a_service_that_nobody_reaches_is_unavailable_and_used_again_later(gcp: Gcp) -> None:
    home = gcp.open(timeout=timedelta(seconds=4))
    public = await home.run(home.make, "ica-1", P256)
    signer = home.signer("ica-1", public)
    with gcp.away(), pytest.raises(Unavailable, match="Google Cloud KMS cannot be used"):
        await home.run(signer.sign, b"x")
    assert keys.verifies(public, await home.run(signer.sign, b"x"), b"x")


def test_a_library_that_is_missing_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.kms_v1", None)
    words = r"CERTCTL_GCP_KMS_KEY_RING is set, but .* pip install 'certctl\[gcp\]'"
    with pytest.raises(Unsafe, match=words):
        GcpKms(RING, protection="HSM", endpoint="", timeout=timedelta(seconds=1))
