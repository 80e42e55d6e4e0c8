"""What the CSR of a certificate must be like, and CSRs that the server makes itself."""

from __future__ import annotations

from datetime import timedelta

from certctl.domain import profile
from certctl.domain.errors import Invalid
from certctl.domain.names import Name, parse_names
from certctl.pki import keys, x509
from certctl.pki.sealing import Place
from certctl.services import blocked
from certctl.services.platform import Platform
from certctl.store import certificates
from certctl.store.db import Row, Session


def profile_of(terms: Row) -> profile.Profile:
    """The profile as the domain sees it."""
    return profile.Profile(
        id=terms["profile_id"],
        version=terms["profile_version"],
        keys=tuple(
            profile.KeyRule(rule["algorithm"], rule["min_size"])
            for rule in terms["allowed_key_algorithms"]
        ),
        max_lifetime=timedelta(seconds=terms["max_ttl_seconds"]),
        ekus=tuple(terms["allowed_ekus"]),
        san_patterns=tuple(terms["required_san_patterns"]),
        must_staple=terms["must_staple"],
        must_staple_critical=terms["must_staple_critical"],
        certificate_policies=tuple(terms["certificate_policies"]),
        cps_uri=terms["cps_uri"],
        crl_shards=terms["crl_shards"],
        allow_single_labels=terms["allow_single_labels"],
        spiffe_pattern=terms["spiffe_uri_pattern"],
        allow_short_lived=terms["allow_short_lived"],
        enabled=terms["enabled"],
    )


def approved_names(row: Row) -> tuple[Name, ...]:
    return parse_names(row["sans"])


def server_key(on: Platform, row: Row, job_id: str) -> tuple[str, bytes]:
    """A CSR and its key, made here and sealed for the job: for certificates without an agent,
    where the settings say that the server makes keys."""
    key = keys.generate(keys.KeyAlgorithm(profile.preferred_key(row["allowed_key_algorithms"])))
    sealed = on.data_key.seal(keys.to_pem(key).encode(), Place("jobs", "sealed_key", job_id))
    return x509.make_csr(key, approved_names(row), row["common_name"]), sealed


async def checked(session: Session, row: Row, csr_pem: str) -> x509.CsrFacts:
    """A CSR whose key is not blocked, and that the certificate's names and profile allow.

    Raises:
        Invalid: naming `csr_pem` and the rule that it breaks.
    """
    rules = profile_of(await certificates.terms(session, row["id"]))
    csr = fitting(csr_pem, approved_names(row), row["common_name"], rules=rules)
    await blocked.check(session, csr.spki_sha256)
    return csr


def fitting(
    csr_pem: str, names: tuple[Name, ...], common_name: str | None, *, rules: profile.Profile
) -> x509.CsrFacts:
    """A CSR that the approved names and the profile allow; whether its key is blocked is not known
    here. Raises Invalid as `checked` does."""
    csr = x509.read_csr(csr_pem)
    x509.check_csr_names(csr, names, common_name)
    broken = profile.violations(rules, profile.Order(names, csr.key.algorithm, csr.key.size))
    if broken:
        raise Invalid("csr_pem: " + "; ".join(broken), field="csr_pem")
    return csr
