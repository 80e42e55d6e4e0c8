"""The five steps: order, renewal, revocation, and an order anew, each proved from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.cli.client import Api
from certctl.cli.demo import proof
from certctl.cli.demo.children import Children
from certctl.cli.demo.place import Place
from certctl.cli.demo.proof import Served
from certctl.cli.demo.screen import Screen
from certctl.cli.demo.web import NAME, NAMES, Web
from certctl.cli.follow import follow
from certctl.domain.errors import Refused

CERTIFICATE: Final = "demo"
TARGET: Final = "nginx-demo"
PATIENCE: Final = 120.0
ORDER: Final = {
    "name": CERTIFICATE,
    "common_name": NAME,
    "sans": list(NAMES),
    "owner_id": "o-default",
    "team_id": "t-default",
    "issuer_id": "iss-local",
    "renewal_policy_id": "rp-default",
    "certificate_profile_id": "prof-default",
    "environment": "demo",
}


@dataclass(frozen=True)
class Stage:
    """Everything that runs, and where to show it."""

    place: Place
    api: Api
    children: Children
    screen: Screen
    web: Web
    agent_id: str


def tell(stage: Stage) -> float:
    """All steps; the seconds from the start to the first served certificate.

    Raises:
        Refused, Unavailable, Conflict, …: the reason why a step did not end well.
    """
    screen = stage.screen
    target_id = bind_target(stage)
    certificate_id = _first(stage, target_id)
    seconds = screen.elapsed
    screen.step(f"Renewal of {CERTIFICATE}: a new key on the agent's host, a new certificate")
    renew(stage, certificate_id)
    screen.step(f"Revocation of {CERTIFICATE}")
    revoke(stage, certificate_id)
    screen.step("Archived and ordered anew, so that a valid certificate is served at the end")
    stage.api.delete("certificates", certificate_id)
    order(stage, target_id)
    return seconds


def bind_target(stage: Stage) -> str:
    """The id of the target for our web server, made or brought up to date."""
    body = {
        "type": "NGINX",
        "agent_id": stage.agent_id,
        "config": stage.web.target_config(),
        "enabled": True,
    }
    named = [row for row in stage.api.walk("targets") if row["name"] == TARGET]
    ours = [row for row in named if row["agent_id"] == stage.agent_id] or named
    if ours:
        stage.api.put("targets", ours[0]["id"], body=body)
        return str(ours[0]["id"])
    return str(stage.api.post("targets", body={"name": TARGET, **body})["id"])


def _first(stage: Stage, target_id: str) -> str:
    """The certificate of an earlier run goes on; a revoked one is archived and ordered anew."""
    rows = (row for row in stage.api.walk("certificates") if row["name"] == CERTIFICATE)
    found = next((row for row in rows if row["status"] != "Archived"), None)
    if found is not None and found["status"] != "Revoked":
        stage.screen.step(f"{CERTIFICATE} of an earlier run is {found['status']}: renewed first")
        _bring_up_to_date(stage.api, found, target_id)
        renew(stage, found["id"])
        return str(found["id"])
    if found is not None:
        stage.screen.step(f"{CERTIFICATE} of an earlier run is Revoked: archived, ordered anew")
        stage.api.delete("certificates", found["id"])
    else:
        stage.screen.step(f"Order of {CERTIFICATE} for {' and '.join(NAMES)}")
    return order(stage, target_id)


def _bring_up_to_date(api: Api, row: dict[str, Any], target_id: str) -> None:
    wanted = {"sans": sorted(NAMES), "target_ids": [target_id]}
    if {name: sorted(row[name]) for name in wanted} != wanted:
        api.put("certificates", row["id"], body={"common_name": NAME, **wanted})


def order(stage: Stage, target_id: str) -> str:
    """Order, watch its jobs, read over TLS that it is served; the certificate's id."""
    row = stage.api.post("certificates", body={**ORDER, "target_ids": [target_id]})
    stage.screen.watch(_moments(stage, row["id"], None))
    _show_served(stage, row["id"])
    return str(row["id"])


def renew(stage: Stage, certificate_id: str) -> None:
    """Renew, watch its jobs, read over TLS that the new certificate is served."""
    answer = stage.api.post("certificates", certificate_id, "renew")
    stage.screen.watch(_moments(stage, certificate_id, answer["job_ids"]))
    _show_served(stage, certificate_id)


def revoke(stage: Stage, certificate_id: str) -> None:
    """Ask OCSP, revoke, ask again.

    Raises:
        Refused: when the answers are not good and then revoked.
    """
    leaf, issuer = _newest_chain(stage, certificate_id)
    before = proof.ask_ocsp(leaf, issuer)
    stage.screen.fact("OCSP before", before.status, "green")
    stage.api.post("certificates", certificate_id, "revoke", body={"reason": "superseded"})
    after = proof.ask_ocsp(leaf, issuer)
    stage.screen.fact("OCSP after", after.status, "red")
    stage.screen.fact("asked at", after.url)
    _keep(stage.place.proofs / "revoked.pem", leaf)
    if before.status != "good" or after.status != "revoked (superseded)":
        raise Refused(f"OCSP said {before.status}, then {after.status}")


def _moments(
    stage: Stage, certificate_id: str, job_ids: list[str] | None
) -> Iterator[list[dict[str, Any]]]:
    """What `follow` yields, as long as every child lives."""
    for jobs in follow(stage.api, certificate_id, job_ids=job_ids, seconds=PATIENCE):
        stage.children.check()
        yield jobs


def _show_served(stage: Stage, certificate_id: str) -> Served:
    leaf, issuer = _newest_chain(stage, certificate_id)
    expected = Served(leaf).fingerprint
    anchor = stage.place.ca_file.read_text()
    seen = proof.until_served(stage.web.port, NAME, ca_pem=anchor, fingerprint=expected)
    stage.screen.fact("served serial", seen.serial)
    stage.screen.fact("SHA-256", seen.fingerprint)
    until = seen.certificate.not_valid_after_utc
    stage.screen.fact("valid until", f"{until:%Y-%m-%d %H:%M:%SZ}, verified up to the root")
    _keep(stage.place.proofs / "served.pem", seen.certificate)
    _keep(stage.place.proofs / "issuer.pem", issuer)
    return seen


def _newest_chain(stage: Stage, certificate_id: str) -> tuple[x509.Certificate, x509.Certificate]:
    """The newest live version's leaf and its issuer."""
    versions = stage.api.get("certificates", certificate_id, "versions")["data"]
    live = next((row for row in versions if row["live"]), None)
    if live is None:
        raise Refused(f"certificate {certificate_id} has no live version")
    leaf, issuer, *_ = x509.load_pem_x509_certificates(live["pem_chain"].encode())
    return leaf, issuer


def _keep(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
