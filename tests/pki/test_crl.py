"""CRLs written as DER, judged by openssl, pyca/cryptography and pkilint (RFC 5280 §5)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509 as cx509
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.domain.errors import Invalid
from certctl.pki import der, lint, x509
from certctl.pki.crl import RevokedEntry, draft_crl, entry_der
from certctl.pki.keys import KeyAlgorithm, KeySigner
from certctl.pki.serials import new_serial, serial_number
from tests.pki.made import CA, NOW, OPENSSL_KNOWS, a_root, a_template, openssl

HOUR = timedelta(hours=1)


def _draft(ca: CA, entries: Iterable[RevokedEntry], **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "number": 7,
        "this_update": NOW - HOUR,
        "next_update": NOW + 24 * HOUR,
        "entries": map(entry_der, entries),
        "issuer_public_key": ca.key.public_key(),
    }
    return draft_crl(ca.der, **{**arguments, **changes})


def _crl(ca: CA, *entries: RevokedEntry, **changes: Any) -> bytes:
    tbs = _draft(ca, entries, **changes)
    linted = lint.check_crl(tbs, ca.key.public_key(), shape="crl")
    return x509.sign(linted, KeySigner(ca.key))


def _revoked(serial: int = 0xAB, reason: int = 1, at: datetime = NOW - HOUR) -> RevokedEntry:
    return RevokedEntry(serial, at, reason)


@pytest.mark.parametrize("algorithm", OPENSSL_KNOWS)
@pytest.mark.parametrize("entries", [(), (_revoked(), _revoked(0xCD, 0))])
def test_openssl_and_pkilint_accept_a_list_of_every_algorithm(algorithm, entries, tmp_path) -> None:
    ca = a_root(algorithm)
    made = _crl(ca, *entries)
    (tmp_path / "ca.pem").write_text(x509.pem(ca.der))
    (tmp_path / "c.crl").write_bytes(made)
    said = openssl(
        "crl", "-inform", "DER", "-in", tmp_path / "c.crl", "-CAfile", tmp_path / "ca.pem",
        "-noout", "-verify", "-text",
    ).stdout  # fmt: skip
    assert "verify OK" in said
    assert ("No Revoked Certificates." in said) == (not entries)
    assert "X509v3 CRL Number: \n                7\n" in said
    assert lint.pkilint_findings("crl", made) == []


def test_openssl_refuses_exactly_the_revoked_certificate(tmp_path) -> None:
    root = a_root()
    middle = root.sub_ca(KeyAlgorithm.ECDSA_P384)
    good, bad = middle.issue(a_template()), middle.issue(a_template())
    revoked = _revoked(serial_number(x509.facts(bad).serial))
    crls = b"".join(
        _pem_crl(made).encode() for made in (_crl(root), _crl(middle, revoked, _revoked(5)))
    )
    (tmp_path / "crls.pem").write_bytes(crls)
    for name, one in (("root", root.der), ("middle", middle.der), ("good", good), ("bad", bad)):
        (tmp_path / f"{name}.pem").write_text(x509.pem(one))
    said = {
        name: openssl(
            "verify", "-crl_check_all", "-CRLfile", tmp_path / "crls.pem",
            "-CAfile", tmp_path / "root.pem", "-untrusted", tmp_path / "middle.pem",
            tmp_path / f"{name}.pem",
        ).stdout
        for name in ("good", "bad")
    }  # fmt: skip
    assert said["good"].endswith("good.pem: OK\n")
    assert "certificate revoked" in said["bad"]


def _pem_crl(made: bytes) -> str:
    return x509.pem(made).replace("CERTIFICATE", "X509 CRL")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, None),
        (1, cx509.ReasonFlags.key_compromise),
        (2, cx509.ReasonFlags.ca_compromise),
        (3, cx509.ReasonFlags.affiliation_changed),
        (4, cx509.ReasonFlags.superseded),
        (5, cx509.ReasonFlags.cessation_of_operation),
        (6, cx509.ReasonFlags.certificate_hold),
        (9, cx509.ReasonFlags.privilege_withdrawn),
        (10, cx509.ReasonFlags.aa_compromise),
    ],
)
def test_every_reason_is_read_back_and_unspecified_is_left_out(code, reason) -> None:
    """RFC 5280 §5.3.1: absent rather than unspecified."""
    made = cx509.load_der_x509_crl(_crl(a_root(), _revoked(reason=code)))
    (entry,) = list(made)
    assert (entry.serial_number, entry.revocation_date_utc) == (0xAB, _whole(NOW - HOUR))
    found = [e.value.reason for e in entry.extensions if isinstance(e.value, cx509.CRLReason)]
    assert found == ([reason] if reason else [])
    assert not any(e.critical for e in entry.extensions)


def _whole(at: datetime) -> datetime:
    return at.replace(microsecond=0)


def test_times_cross_into_generalized_time_in_2050() -> None:
    turn = datetime(2050, 1, 1, tzinfo=UTC)
    made = _crl(a_root(), _revoked(at=turn - HOUR), _revoked(2, at=turn), next_update=turn)
    crl = cx509.load_der_x509_crl(made)
    assert crl.next_update_utc == turn
    assert [entry.revocation_date_utc for entry in crl] == [turn - HOUR, turn]
    assert b"\x17\x0d491231230000Z" in made
    assert b"\x18\x0f20500101000000Z" in made


def test_the_authority_key_identifier_is_the_issuers() -> None:
    crl = cx509.load_der_x509_crl(_crl(a_root()))
    stated = cx509.load_der_x509_certificate(a_root().der).extensions
    own = stated.get_extension_for_class(cx509.SubjectKeyIdentifier).value.digest
    found = crl.extensions.get_extension_for_class(cx509.AuthorityKeyIdentifier)
    assert (found.value.key_identifier, found.critical) == (own, False)


@pytest.mark.parametrize(
    ("entries", "changes", "why"),
    [
        ((_revoked(reason=7),), {}, "reason 7"),
        ((_revoked(reason=8),), {}, "reason 8"),
        ((_revoked(serial=0),), {}, "serial number"),
        ((_revoked(serial=1 << 159),), {}, "serial number"),
        ((), {"number": -1}, "CRL number"),
        ((), {"number": 1 << 159}, "CRL number"),
        ((), {"next_update": NOW - HOUR}, "nextUpdate"),
    ],
)
def test_a_list_that_rfc_5280_does_not_allow_is_not_drafted(entries, changes, why) -> None:
    with pytest.raises(Invalid, match=why):
        _draft(a_root(), entries, **changes)


def _changed(at: int, raw: bytes) -> bytes:
    """The usual list with one member of its TBSCertList replaced."""
    members = [m.raw for m in der.members(_draft(a_root(), [_revoked()]))]
    return der.sequence(*members[:at], raw, *members[at + 1 :])


ED25519 = der.sequence(der.oid("1.3.101.112"))
NO_SERIAL = der.sequence(der.sequence(der.integer(0), der.time(NOW)))
TWICE = der.sequence(*[der.sequence(der.integer(5), der.time(NOW))] * 2)


def _entry(*parts: bytes) -> bytes:
    """A list of forty good entries and, beyond what is parsed and shown to pkilint, a bad one."""
    good = [entry_der(_revoked(serial)) for serial in range(6, 46)]
    return _changed(5, der.sequence(*good, der.sequence(*parts)))


def _shard(point: bytes, *, critical: bool = True) -> bytes:
    extension = der.extension("2.5.29.28", der.sequence(point), critical=critical)
    return _changed(6, der.explicit(0, der.sequence(AUTHORITY, NUMBER, extension)))


def _at(url: bytes) -> bytes:
    return der.explicit(0, der.explicit(0, der.tlv(0x86, url)))


ONLY_LEAVES, INDIRECT = der.tlv(0x81, b"\xff"), der.tlv(0x84, b"\xff")
NUMBER = der.extension("2.5.29.20", der.integer(1))
AUTHORITY = der.extension("2.5.29.35", der.sequence(der.tlv(0x80, b"x" * 20)))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: _changed(1, ED25519), "signature algorithms do not match"),
        (lambda: _changed(4, der.time(NOW - 2 * HOUR)), "nextUpdate"),
        (lambda: _changed(5, NO_SERIAL), "serial number is not positive"),
        (lambda: _changed(5, TWICE), "listed twice"),
        (lambda: _changed(6, der.explicit(0, der.sequence(AUTHORITY))), "CRL number is missing"),
        (lambda: _changed(6, der.explicit(0, der.sequence(NUMBER))), "authority key identifier"),
        (lambda: _changed(2, b"\x30\x00"), r"pkix\.name_empty"),
        (lambda: b"\x30\x00", "cannot be read"),
        (lambda: b"", "cannot be read"),
        (lambda: _entry(der.integer(-5), der.time(NOW)), "serial number is not positive"),
        (lambda: _entry(der.integer(1 << 160), der.time(NOW)), "serial number is not positive"),
        (lambda: _entry(der.tlv(2, b"\0\5"), der.time(NOW)), "serial number is not positive"),
        (lambda: _entry(der.integer(45), der.time(NOW)), "listed twice"),
        (lambda: _entry(der.integer(5)), "cut short|not formed"),
        (lambda: _entry(der.octets(b"5"), der.time(NOW)), "not formed as an entry"),
        (lambda: _entry(der.integer(5), der.tlv(0x17, b"261332000000Z")), "another time"),
        (lambda: _entry(der.integer(5), der.generalized_time(NOW)), "another time"),
        (lambda: _entry(der.integer(5), der.time(NOW), der.NULL), "another time or other"),
        (lambda: _entry(der.integer(5), der.time(NOW), _reason(7)), "another time or other"),
        (lambda: _entry(der.integer(5), der.time(NOW), _reason(8)), "another time or other"),
        (lambda: _shard(_at(b"http://a.test/1") + ONLY_LEAVES, critical=False), "not critical"),
        (lambda: _shard(_at(b"https://a.test/1") + ONLY_LEAVES), "not one of leaves"),
        (lambda: _shard(_at(b"http://a.test/1")), "not one of leaves"),
        (lambda: _shard(_at(b"http://a.test/1") + ONLY_LEAVES + INDIRECT), "not one of leaves"),
        (lambda: _shard(ONLY_LEAVES), "not one of leaves"),
    ],
)
def test_lint_refuses_a_bad_list(make, why) -> None:
    with pytest.raises(Invalid, match=why):
        lint.check_crl(make(), a_root().key.public_key(), shape=("bad", why))


def _reason(code: int) -> bytes:
    return der.sequence(der.extension("2.5.29.21", der.integer(code, tag=der.ENUMERATED)))


@pytest.mark.parametrize("entries", [(), (_revoked(), _revoked(0xCD, 0))])
def test_the_list_of_a_shard_is_critically_so(entries, tmp_path) -> None:
    """RFC 5280 §5.2.5, as openssl, pyca/cryptography and pkilint read it."""
    urls = ("http://a.test/crl/ca-1/7", "http://old.test/crl/ca-1/7")
    made = _crl(a_root(), *entries, shard_urls=urls)
    crl = cx509.load_der_x509_crl(made)
    point = crl.extensions.get_extension_for_class(cx509.IssuingDistributionPoint)
    assert point.critical
    assert [name.value for name in point.value.full_name or ()] == list(urls)
    assert point.value.only_contains_user_certs
    assert lint.pkilint_findings("crl", made) == []
    (tmp_path / "c.crl").write_bytes(made)
    said = openssl("crl", "-inform", "DER", "-in", tmp_path / "c.crl", "-noout", "-text").stdout
    assert "X509v3 Issuing Distribution Point: critical" in said
    assert "Only User Certificates" in said
    assert all(url in said for url in urls)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, (1 << 159) - 1), st.sampled_from([0, 1, 3, 4, 5, 9])),
        unique_by=lambda entry: entry[0],
        max_size=60,
    )
)
def test_what_goes_in_comes_out_in_order(pairs) -> None:
    made = _crl(a_root(), *(_revoked(serial, reason) for serial, reason in pairs))
    crl = cx509.load_der_x509_crl(made)
    assert crl.is_signature_valid(a_root().key.public_key())
    assert [entry.serial_number for entry in crl] == [serial for serial, _ in pairs]


def test_ten_thousand_entries_are_drafted_and_checked_quickly() -> None:
    ca = a_root()
    entries = [_revoked(new_serial(), n % 6, NOW - n * HOUR) for n in range(10_000)]
    spent = []
    for _ in range(3):
        started = time.perf_counter()
        tbs = _draft(ca, entries)
        spent.append(time.perf_counter() - started)
    # About 0.03 s where nothing else runs.
    assert min(spent) < 0.25
    made = x509.sign(lint.check_crl(tbs, ca.key.public_key(), shape="long"), KeySigner(ca.key))
    crl = cx509.load_der_x509_crl(made)
    assert len(crl) == 10_000
    assert crl.get_revoked_certificate_by_serial_number(entries[777].serial) is not None
