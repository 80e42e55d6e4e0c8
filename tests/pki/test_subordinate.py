"""The load checks of a CA that somebody else has signed: what is taken, what is refused and how."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from certctl.domain.errors import Invalid
from certctl.pki.name_constraints import NameConstraints
from certctl.pki.subordinate import read_chain
from tests.enterprise import DAY, SIGNS, a_ca

NOW = datetime.now(UTC)
ROOT = a_ca("Corp root")
POLICY = a_ca("Corp policy", ROOT, path_length=1)
ISSUING = a_ca("Corp issuing", POLICY, path_length=0)
OTHER = a_ca("Corp policy")
Files = tuple[str, str]


def test_a_chain_is_put_in_order_up_to_the_root() -> None:
    for files in (
        (ISSUING.pem, ROOT.pem + POLICY.pem),
        (ISSUING.pem, POLICY.pem + ROOT.pem),
        (ISSUING.pem + POLICY.pem + ROOT.pem, ""),
        (ISSUING.pem, ISSUING.pem + POLICY.pem + ROOT.pem),
    ):
        links = read_chain(*files, NOW)
        assert [link.name for link in links] == ["Corp issuing", "Corp policy", "Corp root"]
        assert [link.path_length for link in links] == [0, 1, 8]
        assert links[-1].der == ROOT.der


def test_a_ca_without_key_usage_is_taken_since_nothing_is_forbidden() -> None:
    plain = a_ca("Corp issuing", ROOT, usages=None)
    assert read_chain(plain.pem, ROOT.pem, NOW)[0].path_length == 7


def test_name_constraints_above_hold_below() -> None:
    top = a_ca("Corp root", permitted=("corp.test", "10.0.0.0/8"))
    below = a_ca("Corp issuing", top, permitted=("shop.corp.test",))
    own, above = read_chain(below.pem, top.pem, NOW)
    assert above.constraints == NameConstraints(("corp.test", "10.0.0.0/8"))
    assert own.constraints == NameConstraints(("shop.corp.test", "10.0.0.0/8"))


def _under(top: object = ROOT, **odd: object) -> Files:
    return a_ca("Corp issuing", top, **odd).pem, top.pem  # type: ignore[arg-type, attr-defined]


REFUSED: dict[str, tuple[Callable[[], Files], str, str]] = {
    "no PEM": (lambda: ("hello", ROOT.pem), "certificate_pem", "no PEM certificate"),
    "a key": (
        lambda: (ISSUING.key_pem(), ROOT.pem), "certificate_pem", "unexpected PEM block"),
    "two and a chain": (
        lambda: (ISSUING.pem + POLICY.pem, ROOT.pem), "certificate_pem", "more than one"),
    "a root": (lambda: (ROOT.pem, ""), "certificate_pem", "is a root"),
    "no CA": (lambda: _under(is_ca=False, usages=()), "certificate_pem", "CA:TRUE"),
    "no keyCertSign": (
        lambda: _under(usages=("crl_sign",)), "certificate_pem", "keyCertSign"),
    "no cRLSign": (lambda: _under(usages=SIGNS[:1]), "certificate_pem", "cRLSign"),
    "expired": (lambda: _under(start=-2 * DAY, end=-DAY), "certificate_pem", "expired"),
    "not yet": (lambda: _under(start=DAY), "certificate_pem", "valid from"),
    "a curve": (
        lambda: _under(key=ec.generate_private_key(ec.SECP521R1())), "certificate_pem", "P-256"),
    "a small key": (
        lambda: _under(key=rsa.generate_private_key(65537, 1024)), "certificate_pem", "1024"),
    "no chain": (lambda: (ISSUING.pem, ""), "chain_pem", "is missing"),
    "no root": (lambda: (ISSUING.pem, POLICY.pem), "chain_pem", "Corp root is missing"),
    "another signer": (lambda: (ISSUING.pem, OTHER.pem), "chain_pem", "the signature of"),
    "a stranger": (
        lambda: (ISSUING.pem, POLICY.pem + ROOT.pem + OTHER.pem), "chain_pem", "leave it out"),
    "an old root": (
        lambda: _under(a_ca("old", start=-2 * DAY, end=-DAY)), "chain_pem", "expired"),
    "path length": (lambda: _under(ISSUING), "chain_pem", "is missing"),
    "too deep": (
        lambda: (a_ca("low", ISSUING).pem, ISSUING.pem + POLICY.pem + ROOT.pem),
        "certificate_pem", "path length"),
    "wider names": (
        lambda: _under(a_ca("top", permitted=("a.test",)), permitted=("b.test",)),
        "certificate_pem", "permits names"),
    "mail": (lambda: _under(permitted=("@a.test",)), "certificate_pem", "RFC822Name"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_cannot_be_signed_by_is_refused_by_its_field(case: str) -> None:
    files, field, words = REFUSED[case]
    with pytest.raises(Invalid, match=words) as refused:
        read_chain(*files(), NOW)
    assert refused.value.field == field
    assert refused.value.message.startswith(f"{field}: ")
