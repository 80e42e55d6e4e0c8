"""The catalogue of permissions, and the roles that every installation has."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """The established permission names, `area.action`."""

    AGENT_EDIT = "agent.edit"
    AGENT_HEARTBEAT = "agent.heartbeat"
    AGENT_JOB_COMPLETE = "agent.job.complete"
    AGENT_JOB_POLL = "agent.job.poll"
    AGENT_JOB_REPORT = "agent.job.report"
    AGENT_READ = "agent.read"
    AGENT_RETIRE = "agent.retire"
    APPROVAL_APPROVE = "approval.approve"
    APPROVAL_READ = "approval.read"
    APPROVAL_REJECT = "approval.reject"
    AUDIT_EXPORT = "audit.export"
    AUDIT_READ = "audit.read"
    AUTH_BOOTSTRAP_USE = "auth.bootstrap.use"
    AUTH_BREAKGLASS_ADMIN = "auth.breakglass.admin"
    AUTH_BREAKGLASS_LOGIN = "auth.breakglass.login"
    AUTH_KEY_CREATE = "auth.key.create"
    AUTH_KEY_DELETE = "auth.key.delete"
    AUTH_KEY_LIST = "auth.key.list"
    AUTH_KEY_ROTATE = "auth.key.rotate"
    AUTH_OIDC_CREATE = "auth.oidc.create"
    AUTH_OIDC_DELETE = "auth.oidc.delete"
    AUTH_OIDC_EDIT = "auth.oidc.edit"
    AUTH_OIDC_LIST = "auth.oidc.list"
    AUTH_ROLE_ASSIGN = "auth.role.assign"
    AUTH_ROLE_CREATE = "auth.role.create"
    AUTH_ROLE_DELETE = "auth.role.delete"
    AUTH_ROLE_EDIT = "auth.role.edit"
    AUTH_ROLE_LIST = "auth.role.list"
    AUTH_ROLE_REVOKE = "auth.role.revoke"
    AUTH_SESSION_LIST = "auth.session.list"
    AUTH_SESSION_LIST_ALL = "auth.session.list.all"
    AUTH_SESSION_REVOKE = "auth.session.revoke"
    AUTH_USER_DEACTIVATE = "auth.user.deactivate"
    AUTH_USER_READ = "auth.user.read"
    CA_HIERARCHY_MANAGE = "ca.hierarchy.manage"
    CERT_BULK_REVOKE = "cert.bulk_revoke"
    CERT_DELETE = "cert.delete"
    CERT_EDIT = "cert.edit"
    CERT_ISSUE = "cert.issue"
    CERT_READ = "cert.read"
    CERT_REVOKE = "cert.revoke"
    CRL_ADMIN = "crl.admin"
    DIGEST_READ = "digest.read"
    DIGEST_SEND = "digest.send"
    DISCOVERY_CLAIM = "discovery.claim"
    DISCOVERY_READ = "discovery.read"
    DISCOVERY_RUN = "discovery.run"
    EST_ADMIN = "est.admin"
    HEALTHCHECK_ACKNOWLEDGE = "healthcheck.acknowledge"
    HEALTHCHECK_DELETE = "healthcheck.delete"
    HEALTHCHECK_EDIT = "healthcheck.edit"
    HEALTHCHECK_READ = "healthcheck.read"
    ISSUER_DELETE = "issuer.delete"
    ISSUER_EDIT = "issuer.edit"
    ISSUER_READ = "issuer.read"
    JOB_CANCEL = "job.cancel"
    JOB_READ = "job.read"
    METRICS_READ = "metrics.read"
    NETWORK_SCAN_EDIT = "network_scan.edit"
    NETWORK_SCAN_READ = "network_scan.read"
    NETWORK_SCAN_RUN = "network_scan.run"
    NOTIFICATION_EDIT = "notification.edit"
    NOTIFICATION_READ = "notification.read"
    OWNER_DELETE = "owner.delete"
    OWNER_EDIT = "owner.edit"
    OWNER_READ = "owner.read"
    POLICY_DELETE = "policy.delete"
    POLICY_EDIT = "policy.edit"
    POLICY_READ = "policy.read"
    PROFILE_DELETE = "profile.delete"
    PROFILE_EDIT = "profile.edit"
    PROFILE_READ = "profile.read"
    SCEP_ADMIN = "scep.admin"
    STATS_READ = "stats.read"
    TARGET_DELETE = "target.delete"
    TARGET_EDIT = "target.edit"
    TARGET_READ = "target.read"
    TEAM_DELETE = "team.delete"
    TEAM_EDIT = "team.edit"
    TEAM_READ = "team.read"
    VERIFICATION_READ = "verification.read"
    VERIFICATION_RUN = "verification.run"

    @property
    def area(self) -> str:
        return self.split(".", 1)[0]


_P = Permission
_ALL = frozenset(Permission)
_OF_PROGRAMS_AND_ADMINISTRATORS = frozenset({"auth", "ca", "crl", "est", "scep"})
_READS = frozenset(
    p for p in _ALL if p.endswith(".read") and p.area not in _OF_PROGRAMS_AND_ADMINISTRATORS
)
_ONLY_AGENTS = frozenset(
    {_P.AGENT_HEARTBEAT, _P.AGENT_JOB_COMPLETE, _P.AGENT_JOB_POLL, _P.AGENT_JOB_REPORT}
)
_ONLY_ADMINISTRATORS = frozenset(
    {
        _P.AGENT_RETIRE,
        _P.AUDIT_EXPORT,
        _P.CERT_BULK_REVOKE,
        _P.ISSUER_DELETE,
        _P.PROFILE_DELETE,
    }
)
_DAILY = (
    frozenset(p for p in _ALL if p.area not in _OF_PROGRAMS_AND_ADMINISTRATORS)
    - _ONLY_AGENTS
    - _ONLY_ADMINISTRATORS
)
_NO_MACHINE = frozenset({_P.HEALTHCHECK_DELETE, _P.OWNER_DELETE, _P.TEAM_DELETE})

ROLES: Final[dict[str, frozenset[Permission]]] = {
    "r-admin": _ALL,
    "r-operator": _DAILY | {_P.AUTH_USER_READ},
    "r-viewer": _READS,
    "r-agent": _ONLY_AGENTS | {_P.CERT_READ, _P.DISCOVERY_RUN, _P.VERIFICATION_RUN},
    "r-mcp": _DAILY
    - _NO_MACHINE
    - {
        _P.AGENT_EDIT,
        _P.CERT_DELETE,
        _P.DIGEST_SEND,
        _P.DISCOVERY_RUN,
        _P.HEALTHCHECK_EDIT,
        _P.NETWORK_SCAN_EDIT,
        _P.OWNER_EDIT,
        _P.POLICY_DELETE,
        _P.POLICY_EDIT,
        _P.TARGET_DELETE,
        _P.TEAM_EDIT,
    },
    "r-cli": (_DAILY - _NO_MACHINE) | {_P.AUTH_KEY_CREATE, _P.AUTH_KEY_LIST, _P.AUTH_KEY_ROTATE},
    "r-auditor": frozenset({_P.AUDIT_EXPORT, _P.AUDIT_READ, _P.AUTH_USER_READ}),
}


class AnyActor:
    """Marks what every signed-in caller may use, such as `GET /auth/check`."""

    def __str__(self) -> str:
        return "(any actor)"


ANY_ACTOR: Final = AnyActor()
Needs = Permission | AnyActor
