"""What key homes have in common: the signer that asks one, and the digest that is sent there."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Generic, Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certctl.domain.errors import Unsafe
from certctl.pki.keys import PublicKey, ecdsa_hash, key_facts

T = TypeVar("T")
PAUSE: Final = 0.2


class Signs(Protocol):
    def signature(self, reference: str, public_key: PublicKey, data: bytes) -> bytes: ...


@dataclass(frozen=True)
class HomeSigner:
    """Signs with a key in a home, which takes fresh randomness for each signature unless the
    algorithm has none."""

    home: Signs
    reference: str
    public_key: PublicKey

    @property
    def repeats(self) -> bool:
        return key_facts(self.public_key).algorithm in ("RSA", "Ed25519")

    def sign(self, data: bytes) -> bytes:
        return self.home.signature(self.reference, self.public_key, data)


def digest(key: PublicKey, data: bytes) -> bytes:
    """What a service that takes digests is to sign, so that the length of a CRL does not matter:
    SHA-256 or SHA-384, and for ML-DSA its representative µ (FIPS 204 §6.2, no context)."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return hashlib.new(ecdsa_hash(key.curve).name, data).digest()
    if isinstance(key, rsa.RSAPublicKey):
        return hashlib.sha256(data).digest()
    encoded = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    context = bytes((0, 0))
    return hashlib.shake_256(hashlib.shake_256(encoded).digest(64) + context + data).digest(64)


def dss(raw: bytes) -> bytes:
    """An ECDSA signature that came as its two numbers, in the form that certificates hold."""
    half = len(raw) // 2
    return encode_dss_signature(
        int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
    )


def demand(module: str, *, extra: str, setting: str) -> None:
    """Raises Unsafe when the library of an extra is not installed. Nothing is imported before it is
    needed: that takes up to a second, and not every process signs."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise Unsafe(
            f"{setting} is set, but the library for it is not installed: "
            f"pip install 'certctl[{extra}]'"
        )


class PerThread(Generic[T]):
    """One client for each thread, made when the thread first asks."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._local = make, threading.local()

    def __call__(self) -> T:
        try:
            client: T = self._local.client
        except AttributeError:
            client = self._local.client = self._make()
        return client

    def forget(self) -> None:
        """The next call makes a new one."""
        self._local.__dict__.clear()


def tries(seconds: float) -> Iterator[None]:
    """Once, and again at intervals until the time is over."""
    until = time.monotonic() + seconds
    yield
    while time.monotonic() < until:
        time.sleep(PAUSE)
        yield
