"""pkilint, asked about a whole object; clean verdicts are kept per shape because a run takes
milliseconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from functools import cache
from threading import Lock
from typing import Any, Literal

from certctl.domain.errors import Invalid

Kind = Literal["certificate", "crl", "ocsp"]
Judgement = Callable[[bytes], list[str]]

# Our own rules look at every name and URL, every time; pkilint's syntax checks know only names
# of the public internet and refuse wildcards, single labels, `localhost` and SPIFFE ids.
REPLACED = frozenset(
    {
        "pkix.invalid_domain_name_syntax",
        "pkix.invalid_email_address_syntax",
        "pkix.invalid_uri_syntax",
    }
)
MAX_SHAPES = 1024

_clean: OrderedDict[Hashable, None] = OrderedDict()
_clean_lock = Lock()
_pkilint_lock = Lock()


def pkilint_findings(kind: Kind, der: bytes) -> list[str]:
    """The codes of what pkilint finds wrong with `der`, at ERROR and above, sorted.

    A document that it cannot decode gives `undecodable`.
    """
    with _pkilint_lock:
        return _judgement(kind)(der)


def require_clean(
    kind: Kind,
    shape: Hashable,
    document: Callable[[], bytes],
    *,
    waived: Collection[str] = (),
) -> tuple[str, ...]:
    """Refuse a document with findings, unless one of its shape has been found clean before. The
    codes that were found and passed over, being among the `waived`.

    Only clean verdicts are kept: a bad value in one document must not condemn the next, and what
    is passed over now may block tomorrow.

    Raises:
        Invalid: listing the codes.
    """
    key = (kind, shape)
    with _clean_lock:
        if key in _clean:
            _clean.move_to_end(key)
            return ()
    found = pkilint_findings(kind, document())
    if codes := [code for code in found if code not in waived]:
        raise Invalid(f"lint refuses the {kind}: {', '.join(codes)}")
    if found:
        return tuple(found)
    with _clean_lock:
        _clean[key] = None
        while len(_clean) > MAX_SHAPES:
            _clean.popitem(last=False)
    return ()


@cache
def _judgement(kind: Kind) -> Judgement:
    """pkilint's validators of one kind, loaded at first use: importing them is slow."""
    from pkilint import loader

    makers: dict[Kind, tuple[Callable[[], Any], Any]] = {
        "certificate": (_certificate_validators, loader.RFC5280CertificateDocumentLoader),
        "crl": (_crl_validators, loader.RFC5280CertificateListDocumentLoader),
        "ocsp": (_ocsp_validators, loader.RFC6960OCSPResponseDocumentLoader),
    }
    validators, load = makers[kind]
    return _asking(validators(), load().load_der_document)


def _asking(validator: Any, load: Callable[[bytes, str], Any]) -> Judgement:
    from pkilint.validation import ValidationFindingSeverity

    def codes(der: bytes) -> list[str]:
        try:
            document = load(der, "document")
        except ValueError:
            return ["undecodable"]
        found = {
            described.finding.code
            for result in validator.validate(document.root)
            for described in result.finding_descriptions
            if described.finding.severity <= ValidationFindingSeverity.ERROR
        }
        return sorted(found - REPLACED)

    return codes


def _certificate_validators() -> Any:
    from pkilint.pkix import certificate, extension, name

    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(
            name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS
        ),
        [
            certificate.create_issuer_validator_container(),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container(),
            certificate.create_extensions_validator_container(),
            certificate.create_spki_validator_container(),
        ],
    )


def _crl_validators() -> Any:
    from pkilint import pkix
    from pkilint.pkix import crl, extension, name

    return crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )


def _ocsp_validators() -> Any:
    from pkilint import pkix
    from pkilint.pkix import extension, name, ocsp

    return ocsp.create_pkix_ocsp_response_validator_container(
        [
            ocsp.create_response_decoder(),
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [],
    )
