"""What a certificate is to contain, decided before any byte of it exists."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from certctl.domain.errors import Invalid
from certctl.domain.names import Name
from certctl.pki.keys import PublicKey
from certctl.pki.name_constraints import NONE, NameConstraints

BACKDATING = timedelta(minutes=5)
SECOND = timedelta(seconds=1)
Kind = Literal["leaf", "ca", "ocsp_responder"]


@dataclass(frozen=True, kw_only=True)
class Template:
    """A certificate to be drafted. `names` are issued exactly as they stand here.

    A `subject_cn` of more than 64 characters is left out (X.520 ub-common-name). `ekus` are the
    established names; an OCSP responder always gets OCSPSigning alone, and neither `ocsp_url` nor
    `crl_url`. `path_length` and `name_constraints` count for a CA, `must_staple` and
    `no_revocation` (RFC 9608, no revocation information is offered) for a leaf. `policies` are
    identifiers, each with `cps_uri` where there is one (RFC 5280 §4.2.1.4).
    """

    kind: Kind
    serial: int
    subject_cn: str | None
    organization: str | None
    names: tuple[Name, ...]
    public_key: PublicKey
    not_before: datetime
    not_after: datetime
    ekus: tuple[str, ...]
    path_length: int | None
    ocsp_url: str | None
    ca_issuers_url: str | None
    crl_url: str | None
    must_staple: bool
    no_revocation: bool = False
    name_constraints: NameConstraints = NONE
    must_staple_critical: bool = False
    policies: tuple[str, ...] = ()
    cps_uri: str = ""


def validity(
    now: datetime, lifetime: timedelta, *, not_after_limit: datetime | None
) -> tuple[datetime, datetime]:
    """notBefore and notAfter of a certificate made at `now`, in whole seconds.

    notBefore lies 5 minutes back for clocks that are slow. Both end seconds count (RFC 5280
    §4.1.2.5), so the span is one second short of `lifetime`. Never past `not_after_limit`, the
    issuer's own end (None for a root).

    Raises:
        Invalid: when nothing of that span would lie ahead of `now`.
    """
    not_before = now.replace(microsecond=0) - BACKDATING
    not_after = (not_before + lifetime - SECOND).replace(microsecond=0)
    if not_after_limit is not None:
        not_after = min(not_after, not_after_limit.replace(microsecond=0))
    if not_after <= now:
        raise Invalid(
            f"the certificate would have ended at {not_after:%Y-%m-%d %H:%M:%S} UTC already: "
            "the lifetime is under 5 minutes, or the issuing CA has expired"
        )
    return not_before, not_after
