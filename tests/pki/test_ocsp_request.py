"""OCSP requests, whose bytes come from strangers (RFC 6960 §4.1, RFC 9654)."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.pki import der, ocsp
from certctl.pki.keys import KeyAlgorithm
from certctl.pki.ocsp import MalformedRequest
from tests.pki.made import a_root, a_template, an_ocsp_request


def test_a_request_names_certificate_and_issuer() -> None:
    ca = a_root()
    leaf = ca.issue(a_template(serial=0x0F00))
    for digest, dotted in ((hashes.SHA1(), ocsp.SHA1), (hashes.SHA256(), ocsp.SHA256)):
        (cert_id,) = ocsp.read(an_ocsp_request(ca, leaf, digest=digest)).cert_ids
        assert (cert_id.serial, cert_id.hash_oid) == (0x0F00, dotted)
        assert ocsp.matches(cert_id, ca.der)
        assert not ocsp.matches(cert_id, a_root(KeyAlgorithm.ED25519).der)
    (cert_id,) = ocsp.read(an_ocsp_request(ca, leaf, digest=hashes.SHA384())).cert_ids
    assert not ocsp.matches(cert_id, ca.der)


@pytest.mark.parametrize("size", [1, 16, 32, 128])
def test_nonces_of_rfc_9654_are_read(size: int) -> None:
    leaf = a_root().issue(a_template())
    assert ocsp.read(an_ocsp_request(a_root(), leaf, nonce=b"n" * size)).nonce == b"n" * size


ALGORITHM = der.sequence(der.oid(ocsp.SHA1), der.NULL)
CERT_ID = der.sequence(ALGORITHM, der.octets(b"a" * 20), der.octets(b"b" * 20), der.integer(9))
ONE = der.sequence(CERT_ID)
NONCE = der.extension(ocsp.NONCE, der.octets(b"n" * 8))
UNKNOWN = "1.2.3.4"


def _hand_made(*requests: bytes, extensions: bytes = b"", before: bytes = b"") -> bytes:
    after = der.explicit(2, der.sequence(extensions)) if extensions else b""
    return der.sequence(der.sequence(before, der.sequence(*requests), after))


def _with_serial(serial: int) -> bytes:
    halves = (der.octets(b"a" * 20), der.octets(b"b" * 20))
    return der.sequence(der.sequence(ALGORITHM, *halves, der.integer(serial)))


SIGNATURE = der.explicit(0, der.sequence(ALGORITHM, der.bits(b"s")))
REQUESTOR = der.explicit(1, der.explicit(4, der.sequence()))


@pytest.mark.parametrize(
    ("data", "count", "nonce"),
    [
        (_hand_made(ONE), 1, None),
        (_hand_made(*[ONE] * 50), 50, None),
        (_hand_made(ONE, extensions=NONCE), 1, b"n" * 8),
        (
            _hand_made(ONE, extensions=der.extension(ocsp.NONCE, der.octets(b"n"), critical=True)),
            1,
            b"n",
        ),
        (_hand_made(ONE, extensions=der.extension(UNKNOWN, b"x")), 1, None),
        (_hand_made(ONE, before=der.explicit(0, der.integer(0))), 1, None),
        (_hand_made(ONE, before=REQUESTOR), 1, None),
        (
            der.sequence(der.sequence(REQUESTOR, der.sequence(ONE)), SIGNATURE),
            1,
            None,
        ),
        (
            _hand_made(
                der.sequence(CERT_ID, der.explicit(0, der.sequence(der.extension(UNKNOWN, b"x"))))
            ),
            1,
            None,
        ),
        (_hand_made(_with_serial((1 << 159) - 1)), 1, None),
    ],
)
def test_requests_of_every_lawful_shape_are_read(data, count, nonce) -> None:
    request = ocsp.read(data)
    assert (len(request.cert_ids), request.nonce) == (count, nonce)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30\x00",
        b"nonsense",
        b"\x30" * 5000,
        bytes(65 * 1024),
        _hand_made(),
        _hand_made(*[ONE] * 51),
        _hand_made(der.sequence()),
        _hand_made(CERT_ID),
        _hand_made(der.sequence(CERT_ID, der.NULL)),
        _hand_made(der.sequence(der.sequence(ALGORITHM, der.octets(b"a"), der.integer(1)))),
        _hand_made(_with_serial(-1)),
        _hand_made(_with_serial(1 << 159)),
        _hand_made(ONE) + b"\0",
        _hand_made(ONE, before=der.explicit(0, der.integer(1))),
        _hand_made(ONE, before=REQUESTOR + der.explicit(0, der.integer(0))),
        _hand_made(ONE, before=der.NULL),
        _hand_made(ONE, extensions=NONCE + NONCE),
        _hand_made(ONE, extensions=der.extension(UNKNOWN, b"x", critical=True)),
        _hand_made(ONE, extensions=der.extension(ocsp.NONCE, der.octets(b""))),
        _hand_made(ONE, extensions=der.extension(ocsp.NONCE, der.octets(b"n" * 129))),
        _hand_made(ONE, extensions=der.extension(ocsp.NONCE, b"bare")),
        _hand_made(ONE, extensions=der.sequence(der.oid(UNKNOWN))),
        _hand_made(ONE, extensions=der.sequence(der.oid(UNKNOWN), der.NULL, der.octets(b"x"))),
        der.sequence(der.sequence(der.sequence(ONE)), der.NULL),
        der.sequence(der.sequence(der.sequence(ONE), der.sequence(ONE))),
        der.sequence(der.NULL),
    ],
)
def test_everything_else_is_a_malformed_request(data: bytes) -> None:
    with pytest.raises(MalformedRequest):
        ocsp.read(data)


def _read_or_malformed(data: bytes) -> None:
    try:
        request = ocsp.read(data)
    except MalformedRequest:
        return
    assert 1 <= len(request.cert_ids) <= 50
    assert request.nonce is None or 1 <= len(request.nonce) <= 128


TREES = st.recursive(
    st.builds(der.tlv, st.sampled_from([1, 2, 3, 4, 5, 6, 10, 0x80]), st.binary(max_size=12)),
    lambda inner: st.builds(
        der.tlv,
        st.sampled_from([0x30, 0x30, 0x30, 0xA0, 0xA1, 0xA2]),
        st.lists(inner, max_size=5).map(b"".join),
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), TREES)
def test_arbitrary_bytes_raise_nothing_but_malformed_request(noise, tree) -> None:
    _read_or_malformed(noise)
    _read_or_malformed(tree)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 200),
    st.integers(0, 4),
    st.binary(max_size=5),
)
def test_a_damaged_request_raises_nothing_but_malformed_request(at, cut, piece) -> None:
    damaged = bytearray(_hand_made(ONE, ONE, extensions=NONCE))
    at %= len(damaged)
    damaged[at : at + cut] = piece
    _read_or_malformed(bytes(damaged))
