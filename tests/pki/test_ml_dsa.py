"""ML-DSA (FIPS 204) in certificates, by RFC 9881; Node, whose OpenSSL knows it, is the judge."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509 as cx509
from cryptography.hazmat.primitives.asymmetric import mldsa

from certctl.domain.errors import Invalid
from certctl.pki import crl, keys, lint, x509
from certctl.pki.keys import KeyAlgorithm, KeySigner
from certctl.pki.pkcs12 import make_pkcs12
from tests.oidc.real import node
from tests.pki.made import ML_DSA, NOW, a_key, a_root, a_template

JUDGE = """
const { X509Certificate, createPublicKey, verify } = require("node:crypto");
const { readFileSync } = require("node:fs");
const [root, middle, leaf] = process.argv.slice(1).map((p) => new X509Certificate(readFileSync(p)));
console.log(JSON.stringify({
  type: root.publicKey.asymmetricKeyType,
  chain: root.verify(root.publicKey) && middle.verify(root.publicKey) &&
    leaf.verify(middle.publicKey) && leaf.checkIssued(middle) && middle.checkIssued(root),
  foreign: leaf.verify(root.publicKey),
}));
"""
SEED = bytes(range(32))  # of the examples in RFC 9881, appendix C


def judged(tmp_path: Path, *ders: bytes) -> str:
    paths = []
    for n, one in enumerate(ders):
        paths.append(tmp_path / f"{n}.pem")
        paths[-1].write_text(x509.pem(one))
    command = [*node(), "-e", JUDGE, *map(str, paths)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize("algorithm", ML_DSA)
def test_node_takes_a_chain_and_no_foreign_signature(
    algorithm: KeyAlgorithm, tmp_path: Path
) -> None:
    root = a_root(algorithm)
    middle = root.sub_ca(algorithm)
    leaf = middle.issue(a_template(public_key=a_key(algorithm, 1).public_key()))
    for one in (root.der, middle.der, leaf):
        assert lint.pkilint_findings("certificate", one) == []
    kind = str(algorithm).lower()
    expected = f'{{"type":"{kind}","chain":true,"foreign":false}}\n'
    assert judged(tmp_path, root.der, middle.der, leaf) == expected


@pytest.mark.parametrize("algorithm", ML_DSA)
def test_a_key_of_another_family_can_stand_below(algorithm: KeyAlgorithm, tmp_path: Path) -> None:
    root = a_root(algorithm)
    middle = root.sub_ca(KeyAlgorithm.ECDSA_P256)
    leaf = middle.issue(a_template(public_key=a_key(algorithm, 1).public_key()))
    assert '"chain":true' in judged(tmp_path, root.der, middle.der, leaf)
    usage = cx509.load_der_x509_certificate(leaf).extensions.get_extension_for_class(cx509.KeyUsage)
    # RFC 9881 §5: such a key signs and does nothing else.
    assert usage.value.digital_signature
    assert not usage.value.key_encipherment
    assert not usage.value.key_agreement


@pytest.mark.parametrize("algorithm", ML_DSA)
def test_a_crl_of_such_a_ca_is_signed_by_it(algorithm: KeyAlgorithm) -> None:
    ca = a_root(algorithm)
    public = ca.key.public_key()
    tbs = crl.draft_crl(
        ca.der,
        number=1,
        this_update=NOW,
        next_update=NOW + timedelta(days=1),
        entries=[],
        issuer_public_key=public,
    )
    made = x509.sign(lint.check_crl(tbs, public, shape="ml-dsa"), KeySigner(ca.key))
    assert lint.pkilint_findings("crl", made) == []
    assert cx509.load_der_x509_crl(made).is_signature_valid(public)


@pytest.mark.parametrize("algorithm", ML_DSA)
def test_a_request_proves_its_key(algorithm: KeyAlgorithm) -> None:
    key = a_key(algorithm, 1)
    csr = x509.read_csr(x509.make_csr(key, (), "a.example"))
    assert (csr.key.algorithm, csr.key.size) == ("ML-DSA", int(algorithm[-2:]))
    assert csr.spki_sha256 == keys.spki_sha256(key.public_key())


def test_a_private_key_is_written_as_the_seed_alone() -> None:
    """RFC 9881 §6 and the first example of its appendix C."""
    text = keys.to_pem(mldsa.MLDSA44PrivateKey.from_seed_bytes(SEED))
    assert text.splitlines()[1:3] == [
        "MDQCAQAwCwYJYIZIAWUDBAMRBCKAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ",
        "GhscHR4f",
    ]


def test_a_pkcs12_file_with_such_a_key_is_refused_in_words() -> None:
    key = a_key(KeyAlgorithm.ML_DSA_65, 1)
    leaf = a_root().issue(a_template(public_key=key.public_key()))
    with pytest.raises(Invalid, match="PKCS #12 file cannot hold an ML-DSA key"):
        make_pkcs12("a", [leaf], key_pem=keys.to_pem(key), password="long enough")
    assert make_pkcs12("a", [leaf], key_pem=None, password="")
