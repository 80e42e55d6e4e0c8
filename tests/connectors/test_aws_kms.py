"""Keys in AWS KMS: made once, used by digest, and what its refusals become."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import threading
import time
from datetime import timedelta

import pytest

from certctl.connectors.signers.aws_kms import SPECS, AwsKms
from certctl.domain.errors import Refused, Unavailable, Unsafe
from certctl.pki import keys
from certctl.pki.keys import KeyAlgorithm
from tests.clouds.aws import SECRET, Aws, refusal
from tests.clouds.aws import aws as aws

P256 = KeyAlgorithm.ECDSA_P256
LONG = b"a long CRL" * 10_000


@pytest.mark.parametrize("algorithm", SPECS)
async def test_a_key_of_every_kind_signs_what_is_longer_than_a_message(
    aws: Aws, algorithm: KeyAlgorithm
) -> None:
    home = aws.open(timeout=timedelta(minutes=1))
    public = await home.run(home.make, "ica-1", algorithm)
    assert f"{algorithm}".startswith(keys.key_facts(public).algorithm)
    signer = home.signer("ica-1", public)
    once, again = [await home.run(signer.sign, LONG) for _ in range(2)]
    assert keys.verifies(public, once, LONG)
    assert (once == again) == signer.repeats


async def test_a_key_is_made_once_by_its_alias(aws: Aws) -> None:
    first, second = aws.open(), aws.open()
    made = await first.run(first.make, "ica-1", P256)
    assert await first.run(first.make, "ica-1", P256) == made
    assert await second.run(second.make, "ica-1", P256) == made
    assert list(aws.aliases) == ["alias/certctl/ica-1"]
    assert len(aws.keys) == 1


async def test_of_two_replicas_that_make_it_at_once_one_wins(
    aws: Aws, caplog: pytest.LogCaptureFixture
) -> None:
    homes = [aws.open() for _ in range(2)]
    aws.seconds = 0.2  # both have asked for the alias before either has made it
    made = await asyncio.gather(*(each.run(each.make, "ica-1", P256) for each in homes))
    assert made[0] == made[1]
    assert len(aws.keys) == 2
    unused = next(key_id for key_id in aws.keys if key_id not in aws.aliases.values())
    assert f"delete the unused key {unused}" in caplog.text


async def test_a_new_key_is_waited_for_until_kms_shows_it(aws: Aws) -> None:
    home = aws.open()
    aws.hidden = 4
    public = await home.run(home.make, "ica-1", P256)
    assert keys.spki(public) == keys.spki(aws.keys["key-0"].public_key())


@pytest.mark.parametrize(
    ("kind", "status", "error", "words"),
    [
        ("AccessDeniedException", 400, Unavailable, "forbids kms:Sign on alias/certctl/ica-1"),
        ("DisabledException", 400, Unavailable, "alias/certctl/ica-1 in AWS KMS is disabled"),
        ("KMSInvalidStateException", 400, Unavailable, "perhaps it is to be deleted"),
        ("NotFoundException", 400, Unavailable, "does not exist in this region"),
        ("ThrottlingException", 400, Unavailable, "ThrottlingException"),
        ("KMSInternalException", 500, Unavailable, "KMSInternalException"),
        ("ServiceUnavailable", 503, Unavailable, "ServiceUnavailable"),
        ("InvalidKeyUsageException", 400, Refused, "refuses kms:Sign on alias/certctl/ica-1"),
    ],
)
async def test_a_refusal_is_told_in_words_of_ours(
    aws: Aws, kind: str, status: int, error: type[Exception], words: str
) -> None:
    home = aws.open(timeout=timedelta(seconds=20))
    public = await home.run(home.make, "ica-1", P256)
    with aws.failing(refusal(kind, status)), pytest.raises(error, match=words) as told:
        await home.run(home.signer("ica-1", public).sign, b"x")
    assert SECRET not in str(told.value)
    assert keys.verifies(public, await home.run(home.signer("ica-1", public).sign, b"x"), b"x")


async def test_credentials_that_come_later_are_found(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = aws.open()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(Unavailable, match="NoCredentialsError"):
        await home.run(home.make, "ica-1", P256)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTESTS")
    assert await home.run(home.make, "ica-1", P256)


async def test_a_service_that_nobody_reaches_is_unavailable_and_used_again_later(aws: Aws) -> None:
    home = aws.open()
    public = await home.run(home.make, "ica-1", P256)
    signer = home.signer("ica-1", public)
    with aws.away(), pytest.raises(Unavailable, match="eu-central-1 cannot be used"):
        await home.run(signer.sign, b"x")
    assert keys.verifies(public, await home.run(signer.sign, b"x"), b"x")


async def test_calls_that_take_long_do_not_stand_in_one_row(aws: Aws) -> None:
    home = aws.open()
    signer = home.signer("ica-1", await home.run(home.make, "ica-1", P256))
    aws.seconds = 0.5
    began = time.monotonic()
    await asyncio.gather(*(home.run(signer.sign, b"x") for _ in range(16)))
    assert time.monotonic() - began < 16 * aws.seconds


async def test_the_service_is_given_up_in_time(aws: Aws) -> None:
    home = aws.open(timeout=timedelta(seconds=1))
    aws.seconds = 3
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await home.run(home.make, "ica-1", P256)
    assert time.monotonic() - began < 2.5


def test_a_library_that_is_missing_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    words = r"CERTCTL_AWS_KMS_REGION is set, but .* pip install 'certctl\[aws\]'"
    with pytest.raises(Unsafe, match=words):
        AwsKms("eu-central-1", endpoint="", alias_prefix="", timeout=timedelta(seconds=1))


@pytest.mark.parametrize("algorithm", [P256, KeyAlgorithm.ECDSA_P384, KeyAlgorithm.RSA_3072])
async def test_anothers_kms_understands_what_it_is_asked(aws: Aws, algorithm: KeyAlgorithm) -> None:
    """moto does not know MessageType: it hashes the digest once more."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        home = AwsKms(
            "eu-central-1",
            endpoint=f"http://127.0.0.1:{port}",
            alias_prefix=f"{threading.get_ident()}/{algorithm}/",
            timeout=timedelta(minutes=1),
        )
        public = await home.run(home.make, "ica-1", algorithm)
        assert await home.run(home.make, "ica-1", algorithm) == public
        signed = await home.run(home.signer("ica-1", public).sign, LONG)
    finally:
        server.stop()
    name = "sha384" if algorithm is KeyAlgorithm.ECDSA_P384 else "sha256"
    assert keys.verifies(public, signed, hashlib.new(name, LONG).digest())
