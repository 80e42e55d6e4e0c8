"""Frames give the very bytes that `pki.ocsp` gives: P-256 signs deterministically."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.x509 import ocsp as cocsp
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.domain.errors import Invalid, Unavailable
from certctl.pki import der, lint, ocsp
from certctl.pki.keys import KeyAlgorithm
from certctl.pki.ocsp_frame import Frame, Shape, time_octets
from tests.pki.made import NOW, a_responder, a_root

HEADS = sorted(ocsp.cert_id_heads(a_root().der))
AT = int(NOW.timestamp())


def octets(serial: int) -> bytes:
    return serial.to_bytes(serial.bit_length() // 8 + 1, "big")


def moment(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)


@settings(max_examples=60, deadline=None)
@given(
    serial=st.integers(1 << 64, (1 << 159) - 1),
    head=st.sampled_from(HEADS),
    status=st.sampled_from(["good", "revoked", "unknown"]),
    reason=st.sampled_from(ocsp.REASONS),
    nonce=st.none() | st.binary(min_size=8, max_size=128),
    age=st.integers(0, 3600),
)
def test_a_frame_writes_what_the_builder_writes(
    serial: int, head: bytes, status: str, reason: int, nonce: bytes | None, age: int
) -> None:
    certificate, signer = a_responder(a_root(), KeyAlgorithm.ECDSA_P256)
    revoked = status == "revoked"
    shape = Shape(
        head,
        len(octets(serial)),
        status,
        reason if revoked else 0,
        len(nonce or b""),  # type: ignore[arg-type]
    )
    frame = Frame(shape, certificate, signer=signer)
    times = [time_octets(each) for each in (AT, AT - age - 60, AT - age, AT + 3600)]
    produced, revoked_at, this_update, next_update = times
    values = (
        produced,
        octets(serial),
        *((revoked_at,) if revoked else ()),
        this_update,
        next_update,
        *((nonce,) if nonce else ()),
    )
    raw = der.sequence(head, der.integer(serial))
    single = ocsp.SingleStatus(
        replace(ocsp.cert_id(a_root().der, serial), raw=raw),
        status,  # type: ignore[arg-type]
        moment(AT - age - 60) if revoked else None,
        reason if revoked else None,
        moment(AT - age),
        moment(AT + 3600),
    )
    expected = ocsp.build(
        [single],
        certificate,
        signer=signer,
        produced_at=moment(AT),
        nonce=nonce,
        shape="test",
    )
    assert frame.response(values, frame.sign(values)) == expected


def good(**changes: bytes) -> tuple[bytes, ...]:
    values = {
        "produced": time_octets(AT),
        "serial": b"\x11" * 16,
        "this": time_octets(AT),
        "next": time_octets(AT + 60),
    }
    return tuple((values | changes).values())


@pytest.mark.parametrize(
    "values",
    [
        good(serial=b"\x11" * 15),
        good(this=b"20260101"),
        good()[:-1],
        (*good(), b"nonce"),
    ],
)
def test_what_does_not_fit_is_not_signed(values: tuple[bytes, ...]) -> None:
    certificate, signer = a_responder(a_root(), KeyAlgorithm.ECDSA_P256)
    frame = Frame(Shape(HEADS[0], 16, "good"), certificate, signer=signer)
    with pytest.raises(Invalid):
        frame.sign(values)


def test_a_responder_signs_nothing_after_its_end() -> None:
    certificate, signer = a_responder(a_root(), KeyAlgorithm.ECDSA_P256)
    frame = Frame(Shape(HEADS[0], 16, "good"), certificate, signer=signer)
    with pytest.raises(Unavailable):
        frame.sign(good(produced=time_octets(AT + 40 * 365 * 86_400)))


def test_a_short_serial_has_no_frame() -> None:
    certificate, signer = a_responder(a_root(), KeyAlgorithm.ECDSA_P256)
    with pytest.raises(Invalid, match="ambiguous"):
        Frame(Shape(HEADS[0], 1, "good"), certificate, signer=signer)


def test_an_archived_answer_says_since_when_we_know_and_passes_pkilint() -> None:
    """RFC 6960 §4.4.4."""
    certificate, signer = a_responder(a_root(), KeyAlgorithm.ECDSA_P256)
    frame = Frame(Shape(HEADS[0], 16, "good", archived=True), certificate, signer=signer)
    cutoff = time_octets(AT - int(timedelta(days=365).total_seconds()))
    values = (*good(), cutoff)
    response = frame.response(values, frame.sign(values))
    (single,) = cocsp.load_der_ocsp_response(response).single_extensions
    assert single.oid.dotted_string == "1.3.6.1.5.5.7.48.1.6"
    assert cutoff in single.value.public_bytes()
    assert lint.pkilint_findings("ocsp", response) == []
