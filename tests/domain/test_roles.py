"""The established catalogue: which built-in role holds what."""

from __future__ import annotations

from typing import Final

import pytest

from certctl.domain.permission import ROLES, Permission

# One letter for each role that holds the permission; the administrator holds all.
LETTERS: Final = {
    "o": "operator",
    "v": "viewer",
    "a": "agent",
    "m": "mcp",
    "c": "cli",
    "u": "auditor",
}
CATALOGUE: Final = """
agent.edit o c; agent.heartbeat a; agent.job.complete a; agent.job.poll a; agent.job.report a
agent.read ovmc; agent.retire -
approval.approve omc; approval.read ovmc; approval.reject omc
audit.export u; audit.read ovmcu
auth.bootstrap.use -; auth.breakglass.admin -; auth.breakglass.login -
auth.key.create c; auth.key.delete -; auth.key.list c; auth.key.rotate c
auth.oidc.create -; auth.oidc.delete -; auth.oidc.edit -; auth.oidc.list -
auth.role.assign -; auth.role.create -; auth.role.delete -; auth.role.edit -; auth.role.list -
auth.role.revoke -
auth.session.list -; auth.session.list.all -; auth.session.revoke -
auth.user.deactivate -; auth.user.read ou
ca.hierarchy.manage -
cert.bulk_revoke -; cert.delete oc; cert.edit omc; cert.issue omc; cert.read ovamc; cert.revoke omc
crl.admin -
digest.read ovmc; digest.send oc
discovery.claim omc; discovery.read ovmc; discovery.run oac
est.admin -
healthcheck.acknowledge omc; healthcheck.delete o; healthcheck.edit oc; healthcheck.read ovmc
issuer.delete -; issuer.edit omc; issuer.read ovmc
job.cancel omc; job.read ovmc
metrics.read ovmc
network_scan.edit oc; network_scan.read ovmc; network_scan.run omc
notification.edit omc; notification.read ovmc
owner.delete o; owner.edit oc; owner.read ovmc
policy.delete oc; policy.edit oc; policy.read ovmc
profile.delete -; profile.edit omc; profile.read ovmc
scep.admin -
stats.read ovmc
target.delete oc; target.edit omc; target.read ovmc
team.delete o; team.edit oc; team.read ovmc
verification.read ovmc; verification.run oamc
"""
ROWS: Final = [
    row.strip().split(maxsplit=1)
    for line in CATALOGUE.splitlines()
    for row in line.split(";")
    if row
]


def test_the_catalogue_is_whole() -> None:
    assert sorted(name for name, _ in ROWS) == sorted(Permission)
    assert len(ROWS) == 82


@pytest.mark.parametrize("role", LETTERS.values())
def test_a_built_in_role_holds_what_the_catalogue_says(role: str) -> None:
    (letter,) = (letter for letter, name in LETTERS.items() if name == role)
    assert ROLES[f"r-{role}"] == {name for name, holders in ROWS if letter in holders}


def test_the_administrator_holds_everything() -> None:
    assert ROLES["r-admin"] == frozenset(Permission)
