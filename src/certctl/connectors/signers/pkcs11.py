"""CA keys in a PKCS#11 token (an HSM, a smart card, SoftHSM): made there, never readable."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from certctl.connectors.key_home import Run
from certctl.connectors.signers.asked import HomeSigner, digest, dss
from certctl.connectors.signers.lane import Lane
from certctl.domain.errors import Refused, Unavailable, Unsafe
from certctl.pki import der
from certctl.pki.keys import KeyAlgorithm, PublicKey, spki

T = TypeVar("T")
CURVES: Final = {  # CKA_EC_PARAMS: the curve's object identifier
    KeyAlgorithm.ECDSA_P256: "1.2.840.10045.3.1.7",
    KeyAlgorithm.ECDSA_P384: "1.3.132.0.34",
    KeyAlgorithm.ED25519: "1.3.101.112",
}
RSA_SIZES: Final = {
    KeyAlgorithm.RSA_2048: 2048,
    KeyAlgorithm.RSA_3072: 3072,
    KeyAlgorithm.RSA_4096: 4096,
}
SHA256: Final = "2.16.840.1.101.3.4.2.1"


def library() -> Any:
    """The Python binding, which is an extra. Raises Unsafe when it is not installed."""
    try:
        import pkcs11
    except ImportError:
        raise Unsafe(
            "CERTCTL_PKCS11_MODULE is set, but the library for it is not installed: "
            "pip install 'certctl[pkcs11]'"
        ) from None
    return pkcs11


class Token:
    """One token with one session, used by one thread at a time.

    A session that was lost is opened anew, and where that does not help, so is the module.
    """

    def __init__(self, module: Path, label: str, *, pin: str, timeout: timedelta) -> None:
        """Raises Unsafe when the extra is not installed, or `module` is no file."""
        self._pkcs11 = library()
        if not module.is_file():
            raise Unsafe(f"CERTCTL_PKCS11_MODULE: there is no file {module}")
        self._module, self._label = module, label
        self._pin: str | None = pin
        words = self._pkcs11.exceptions
        # What another try does not mend: mostly a kind of key that the token does not know.
        self._final = (
            words.MechanismInvalid,
            words.MechanismParamInvalid,
            words.DomainParamsInvalid,
            words.TemplateInconsistent,
            words.AttributeValueInvalid,
        )
        self._lane = Lane(f"the PKCS#11 token {label}", timeout)
        self._lock = Lock()
        self._session: Any = None
        self._keys: dict[bytes, Any] = {}

    @property
    def algorithms(self) -> Sequence[KeyAlgorithm]:
        return (*CURVES, *RSA_SIZES)

    @property
    def run(self) -> Run:
        return self._lane

    @property
    def kept(self) -> timedelta:
        return timedelta(0)

    def make(self, reference: str, algorithm: KeyAlgorithm) -> PublicKey:
        """As `KeyHome.make`. The reference becomes the label of both halves."""

        def found_or_made(session: Any) -> PublicKey:
            for public in self._objects(session, self._pkcs11.ObjectClass.PUBLIC_KEY, reference):
                return self._public_key(public)
            return self._public_key(self._made(session, reference, algorithm))

        return self._with_session(found_or_made)

    def signer(self, reference: str, public_key: PublicKey) -> HomeSigner:
        return HomeSigner(self, reference, public_key)

    def signature(self, reference: str, public_key: PublicKey, data: bytes) -> bytes:
        """The token's signature over `data`, in the form that certificates hold."""
        mechanism, message = self._mechanism(public_key, data)

        def signed(session: Any) -> bytes:
            private = self._private(session, reference, public_key)
            return bytes(private.sign(message, mechanism=mechanism))

        raw = self._with_session(signed)
        return dss(raw) if isinstance(public_key, ec.EllipticCurvePublicKey) else raw

    def _mechanism(self, key: PublicKey, data: bytes) -> tuple[Any, bytes]:
        """Hashed here: CRLs are long, and the plain mechanisms are those that every token has."""
        mechanisms = self._pkcs11.Mechanism
        if isinstance(key, ec.EllipticCurvePublicKey):
            return mechanisms.ECDSA, digest(key, data)
        if isinstance(key, rsa.RSAPublicKey):
            algorithm = der.sequence(der.oid(SHA256), der.NULL)
            return mechanisms.RSA_PKCS, der.sequence(algorithm, der.octets(digest(key, data)))
        return mechanisms.EDDSA, data

    def _with_session(self, work: Callable[[Any], T]) -> T:
        """What `work` returns, tried again with a new session, and then with the module anew."""
        with self._lock, self._in_words():
            for renew in (self._close, self._reinitialize):
                try:
                    return work(self._opened())
                except self._final:
                    raise
                except self._pkcs11.PKCS11Error:
                    renew()
            return work(self._opened())

    def _opened(self) -> Any:
        if self._pin is None:
            raise Unavailable(f"the PKCS#11 token {self._label} refuses CERTCTL_PKCS11_PIN")
        if self._session is None:
            module = self._pkcs11.lib(str(self._module))
            token = module.get_token(token_label=self._label)
            try:
                self._session = token.open(rw=True, user_pin=self._pin)
            except self._pkcs11.PinIncorrect:
                # Tokens lock themselves after a few wrong PINs: this one is not tried again.
                self._pin = None
                return self._opened()
        return self._session

    def _close(self) -> None:
        session, self._session = self._session, None
        self._keys.clear()
        if session is not None:
            try:
                session.close()
            except self._pkcs11.PKCS11Error:
                return  # It was lost already.

    def _reinitialize(self) -> None:
        self._close()
        self._pkcs11.lib(str(self._module)).reinitialize()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except self._final as error:
            words = f"the PKCS#11 token {self._label} refuses: {type(error).__name__}"
            raise Refused(words) from error
        except self._pkcs11.PKCS11Error as error:
            self._close()
            why = str(error) or type(error).__name__
            raise Unavailable(f"the PKCS#11 token {self._label} cannot be used: {why}") from error

    def _objects(self, session: Any, kind: Any, reference: str) -> list[Any]:
        attribute = self._pkcs11.Attribute
        wanted = {attribute.CLASS: kind, attribute.LABEL: reference}
        return list(session.get_objects(wanted))

    def _private(self, session: Any, reference: str, public_key: PublicKey) -> Any:
        """The private half of exactly this key: two replicas may have made one each."""
        wanted = spki(public_key)
        if wanted not in self._keys:
            kinds, attribute = self._pkcs11.ObjectClass, self._pkcs11.Attribute
            ids = [
                bytes(public[attribute.ID])
                for public in self._objects(session, kinds.PUBLIC_KEY, reference)
                if spki(self._public_key(public)) == wanted
            ]
            for private in self._objects(session, kinds.PRIVATE_KEY, reference):
                if bytes(private[attribute.ID]) in ids:
                    self._keys[wanted] = private
        if wanted not in self._keys:
            raise self._pkcs11.NoSuchKey(f"it holds no key of {reference}")
        return self._keys[wanted]

    def _made(self, session: Any, reference: str, algorithm: KeyAlgorithm) -> Any:
        """The public half of a pair that was made now."""
        attribute = self._pkcs11.Attribute
        hidden = {attribute.PRIVATE: True, attribute.SENSITIVE: True, attribute.EXTRACTABLE: False}
        common: dict[str, Any] = {
            "store": True,
            "label": reference,
            "id": secrets.token_bytes(16),
            "capabilities": self._pkcs11.MechanismFlag.SIGN | self._pkcs11.MechanismFlag.VERIFY,
            "private_template": hidden,
        }
        if algorithm in RSA_SIZES:
            rsa_type = self._pkcs11.KeyType.RSA
            return session.generate_keypair(rsa_type, RSA_SIZES[algorithm], **common)[0]
        kinds = self._pkcs11.KeyType
        family = kinds.EC_EDWARDS if algorithm is KeyAlgorithm.ED25519 else kinds.EC
        curve = {attribute.EC_PARAMS: der.oid(CURVES[algorithm])}
        parameters = session.create_domain_parameters(family, curve, local=True)
        return parameters.generate_keypair(**common)[0]

    def _public_key(self, public: Any) -> PublicKey:
        attribute = self._pkcs11.Attribute
        if public.key_type is self._pkcs11.KeyType.RSA:
            numbers = (public[attribute.PUBLIC_EXPONENT], public[attribute.MODULUS])
            return rsa.RSAPublicNumbers(*(int.from_bytes(n, "big") for n in numbers)).public_key()
        point = der.single(bytes(public[attribute.EC_POINT]), der.OCTET_STRING).body
        if public.key_type is self._pkcs11.KeyType.EC_EDWARDS:
            return ed25519.Ed25519PublicKey.from_public_bytes(point)
        curve = ec.SECP256R1() if len(point) == 65 else ec.SECP384R1()
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
