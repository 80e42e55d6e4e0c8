"""Keys in Azure Key Vault: made once, used by digest, and what its refusals become."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest

from certctl.connectors.signers.azure_key_vault import CURVES, RSA_SIZES, AzureKeyVault
from certctl.domain.errors import Refused, Unavailable, Unsafe
from certctl.pki import keys
from certctl.pki.keys import KeyAlgorithm
from tests.clouds.azure import SECRET, Azure, refusal
from tests.clouds.azure import azure as azure

P256 = KeyAlgorithm.ECDSA_P256
LONG = b"a long CRL" * 10_000


@pytest.mark.parametrize("algorithm", [*CURVES, *RSA_SIZES])
async def test_a_key_of_every_kind_signs_what_is_longer_than_a_message(
    azure: Azure, algorithm: KeyAlgorithm
) -> None:
    home = azure.open(timeout=timedelta(seconds=20))
    public = await home.run(home.make, "ica-1", algorithm)
    assert f"{algorithm}".startswith(keys.key_facts(public).algorithm)
    signer = home.signer("ica-1", public)
    once, again = [await home.run(signer.sign, LONG) for _ in range(2)]
    assert keys.verifies(public, once, LONG)
    assert (once == again) == signer.repeats


async def test_a_key_that_is_there_is_not_made_again(azure: Azure) -> None:
    made = [await home.run(home.make, "ica-1", P256) for home in (azure.open(), azure.open())]
    assert made[0] == made[1]
    assert len(azure.keys["ica-1"]) == 1


async def test_the_version_of_the_ca_signs_also_after_a_rotation(azure: Azure) -> None:
    home = azure.open()
    public = await home.run(home.make, "ica-1", P256)
    azure.rotate("ica-1", P256)
    signed = await home.run(home.signer("ica-1", public).sign, b"x")
    assert keys.verifies(public, signed, b"x")
    del azure.keys["ica-1"][next(iter(azure.keys["ica-1"]))]
    elsewhere = azure.open()
    with pytest.raises(Unavailable, match=r"no version of the key ica-1 in .* is that of the CA"):
        await elsewhere.run(elsewhere.signer("ica-1", public).sign, b"x")


@pytest.mark.parametrize(
    ("status", "code", "inner", "error", "words"),
    [
        (403, "Forbidden", "ForbiddenByRbac", Unavailable, "forbids keys/sign on ica-1: Forb"),
        (403, "Forbidden", "KeyDisabled", Unavailable, "is disabled or out of its dates"),
        (404, "KeyNotFound", "", Unavailable, "the key ica-1 in .* does not exist"),
        (409, "Conflict", "ObjectIsDeletedButRecoverable", Unavailable, "was deleted: recover it"),
        (400, "BadParameter", "", Refused, "refuses keys/sign on ica-1: BadParameter"),
        (429, "Throttled", "", Unavailable, "429 Throttled"),
        (503, "ServiceUnavailable", "", Unavailable, "503 ServiceUnavailable"),
    ],
)
async def test_a_refusal_is_told_in_words_of_ours(
    azure: Azure, status: int, code: str, inner: str, error: type[Exception], words: str
) -> None:
    home = azure.open(timeout=timedelta(seconds=8))
    public = await home.run(home.make, "ica-1", P256)
    signer = home.signer("ica-1", public)
    assert keys.verifies(public, await home.run(signer.sign, b"x"), b"x")
    with azure.failing(refusal(status, code, inner)), pytest.raises(error, match=words) as told:
        await home.run(signer.sign, b"x")
    assert SECRET not in str(told.value)
    assert keys.verifies(public, await home.run(signer.sign, b"x"), b"x")


async def test_credentials_that_come_later_are_found(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = azure.open()
    with monkeypatch.context() as without:
        without.setenv("IDENTITY_HEADER", "not ours")
        with pytest.raises(Unavailable, match="takes no credentials of certctl"):
            await home.run(home.make, "ica-1", P256)
    assert await home.run(home.make, "ica-1", P256)


async def test_a_vault_that_nobody_reaches_is_unavailable_and_used_again_later(
    azure: Azure,
) -> None:
    home = azure.open(timeout=timedelta(seconds=8))
    public = await home.run(home.make, "ica-1", P256)
    signer = home.signer("ica-1", public)
    with azure.away(), pytest.raises(Unavailable, match="cannot be used"):
        await home.run(signer.sign, b"x")
    assert keys.verifies(public, await home.run(signer.sign, b"x"), b"x")


@pytest.mark.parametrize("module", ["azure.identity", "azure.keyvault.keys"])
def test_a_library_that_is_missing_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    words = r"CERTCTL_AZURE_KEY_VAULT_URL is set, but .* pip install 'certctl\[azure\]'"
    with pytest.raises(Unsafe, match=words):
        AzureKeyVault("https://pki.vault.azure.net", protection="HSM", timeout=timedelta(seconds=1))
