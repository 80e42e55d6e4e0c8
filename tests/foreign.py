"""Certificates of a CA that certctl knows nothing of, clean to every linter."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

from certctl.pki.keys import KeyAlgorithm
from certctl.pki.x509 import pem, validity
from tests.pki.made import CA, NOW, a_key, a_root, a_template, names


@cache
def an_issuing_ca() -> CA:
    return a_root().sub_ca(KeyAlgorithm.ECDSA_P256)


def a_leaf(*dns: str, age: int = 0, days: int = 90, key: int = 1, **changes: Any) -> bytes:
    """A certificate for these names, `age` days old with a life of `days`; DER."""
    not_before, not_after = validity(
        NOW - timedelta(days=age), timedelta(days=days), not_after_limit=None
    )
    template = a_template(
        subject_cn=dns[0],
        names=names(*dns),
        not_before=not_before,
        not_after=not_after,
        public_key=a_key(number=key).public_key(),
    )
    return an_issuing_ca().issue(template)


def chain() -> list[bytes]:
    """What stands above the leaf, the root left out."""
    return [an_issuing_ca().der]


def full_pem(leaf: bytes) -> str:
    return "".join(map(pem, (leaf, *chain())))
