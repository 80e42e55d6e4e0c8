"""Why a public key must not be certified: sizes, exponents, and how RSA keys go wrong."""

from __future__ import annotations

import math
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
MIN_EXPONENT, MAX_EXPONENT_BITS = 65537, 256
FERMAT_ROUNDS = 100
# Families without weak members.
STRONG = (
    ed25519.Ed25519PublicKey,
    mldsa.MLDSA44PublicKey,
    mldsa.MLDSA65PublicKey,
    mldsa.MLDSA87PublicKey,
)


def _primes_below(limit: int) -> list[int]:
    return [n for n in range(2, limit) if all(n % d for d in range(2, math.isqrt(n) + 1))]


def _powers(base: int, prime: int) -> frozenset[int]:
    """The subgroup that `base` generates modulo `prime`."""
    return frozenset(pow(base, exponent, prime) for exponent in range(1, prime))


SMALL_PRIMES_PRODUCT = math.prod(_primes_below(752))
# The flawed generator made primes of the form k·M + 65537^a mod M with M a product of the first
# primes, so modulo each of them the modulus is a power of 65537. 39 primes are common to all sizes.
ROCA_POWERS = {prime: _powers(65537, prime) for prime in _primes_below(168)[1:]}


def weakness(key: object) -> str | None:
    """The reason to refuse `key`, as the end of a sentence about it, or None."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return rsa_weakness(numbers.n, numbers.e)
    if isinstance(key, ec.EllipticCurvePublicKey):
        known = isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
        return None if known else f"is on the curve {key.curve.name}; use P-256 or P-384"
    if isinstance(key, STRONG):
        return None
    return "is neither ECDSA, RSA, Ed25519 nor ML-DSA"


@lru_cache(maxsize=1024)
def rsa_weakness(modulus: int, exponent: int) -> str | None:
    """The reason to refuse an RSA key, or None (NIST SP 800-89 §5.3.3 and published attacks)."""
    bits = modulus.bit_length()
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS or bits % 8:
        return f"has {bits} bits; RSA needs {MIN_RSA_BITS} to {MAX_RSA_BITS}, a multiple of 8"
    if exponent % 2 == 0 or exponent < MIN_EXPONENT or exponent.bit_length() > MAX_EXPONENT_BITS:
        return f"has an RSA exponent that is even, below {MIN_EXPONENT}, or beyond 256 bits"
    if math.gcd(modulus, SMALL_PRIMES_PRODUCT) > 1:
        return "has an RSA modulus with a factor below 752"
    if all(modulus % prime in powers for prime, powers in ROCA_POWERS.items()):
        return "bears the fingerprint of a flawed key generator (ROCA, CVE-2017-15361)"
    if _has_close_primes(modulus):
        return "is the product of two primes that lie too close together"
    return None


def _has_close_primes(modulus: int) -> bool:
    """Whether a hundred rounds of Fermat's method factor it."""
    a = math.isqrt(modulus - 1) + 1
    for candidate in range(a, a + FERMAT_ROUNDS):
        rest = candidate * candidate - modulus
        # Squares end in these sixteenths only; the root is the dear part.
        if rest & 15 in (0, 1, 4, 9) and math.isqrt(rest) ** 2 == rest:
            return True
    return False
