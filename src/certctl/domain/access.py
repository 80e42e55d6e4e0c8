"""Who may do what: permissions, the built-in roles, scopes and actors."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from certctl.domain.errors import NotAllowed


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
    AUDIT_READ = "audit.read"
    CERT_BULK_REVOKE = "cert.bulk_revoke"
    CERT_DELETE = "cert.delete"
    CERT_EDIT = "cert.edit"
    CERT_ISSUE = "cert.issue"
    CERT_READ = "cert.read"
    CERT_REVOKE = "cert.revoke"
    DIGEST_READ = "digest.read"
    DIGEST_SEND = "digest.send"
    ISSUER_DELETE = "issuer.delete"
    ISSUER_EDIT = "issuer.edit"
    ISSUER_READ = "issuer.read"
    JOB_CANCEL = "job.cancel"
    JOB_READ = "job.read"
    METRICS_READ = "metrics.read"
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
    STATS_READ = "stats.read"
    TARGET_DELETE = "target.delete"
    TARGET_EDIT = "target.edit"
    TARGET_READ = "target.read"
    TEAM_DELETE = "team.delete"
    TEAM_EDIT = "team.edit"
    TEAM_READ = "team.read"


class AnyActor:
    """Marks what every signed-in caller may use, such as `GET /auth/check`."""

    def __str__(self) -> str:
        return "(any actor)"


ANY_ACTOR: Final = AnyActor()
Needs = Permission | AnyActor


def _reads() -> frozenset[Permission]:
    return frozenset(p for p in Permission if p.endswith(".read"))


def _only_agents_use(permission: Permission) -> bool:
    return permission == Permission.AGENT_HEARTBEAT or permission.startswith("agent.job.")


_ALL = frozenset(Permission)
_OPERATOR = frozenset(
    p for p in _ALL if not _only_agents_use(p) and p != Permission.AGENT_RETIRE
) - {Permission.ISSUER_DELETE, Permission.PROFILE_DELETE, Permission.CERT_BULK_REVOKE}

ROLES: Final[dict[str, frozenset[Permission]]] = {
    "r-admin": _ALL,
    "r-operator": _OPERATOR,
    "r-viewer": _reads(),
    "r-agent": frozenset({p for p in _ALL if _only_agents_use(p)} | {Permission.CERT_READ}),
    "r-auditor": frozenset({Permission.AUDIT_READ}),
}


@dataclass(frozen=True)
class Scope:
    """What part of the estate a read may see: everything, or the named issuers and profiles."""

    everything: bool = False
    issuers: frozenset[str] = frozenset()
    profiles: frozenset[str] = frozenset()

    @property
    def sql(self) -> dict[str, object]:
        """The parameters that every scoped query binds."""
        return {
            "scope_all": self.everything,
            "scope_issuers": sorted(self.issuers),
            "scope_profiles": sorted(self.profiles),
        }


EVERYTHING: Final = Scope(everything=True)
NOTHING: Final = Scope()


class ActorType(StrEnum):
    USER = "User"
    SYSTEM = "System"
    AGENT = "Agent"
    API_KEY = "APIKey"


@dataclass(frozen=True)
class Actor:
    """A caller whose identity is established. Every change takes one."""

    id: str
    type: ActorType
    roles: tuple[str, ...] = ()
    permissions: frozenset[Permission] = frozenset()
    agent_id: str | None = None
    address: str | None = field(default=None, compare=False)
    request_id: str | None = field(default=None, compare=False)

    def may(self, needs: Needs) -> bool:
        return isinstance(needs, AnyActor) or needs in self.permissions

    def scope(self, needs: Permission) -> Scope:
        """What this actor may see for `needs`; an agent sees nothing but its own routes' answers.

        Raises:
            NotAllowed: when the actor does not hold the permission at all.
        """
        if not self.may(needs):
            raise NotAllowed(f"this needs the permission {needs}")
        return NOTHING if self.agent_id is not None else EVERYTHING

    @property
    def is_admin(self) -> bool:
        return "r-admin" in self.roles


def actor_with_roles(
    name: str,
    roles: tuple[str, ...],
    *,
    kind: ActorType = ActorType.API_KEY,
    agent_id: str | None = None,
) -> Actor:
    """An actor that holds the union of the built-in `roles`."""
    granted = frozenset().union(*(ROLES[role] for role in roles)) if roles else frozenset()
    return Actor(id=name, type=kind, roles=roles, permissions=granted, agent_id=agent_id)


def system(name: str) -> Actor:
    """The platform itself, acting for a task such as `renewal` or `sealer`."""
    return Actor(id=f"system:{name}", type=ActorType.SYSTEM, permissions=_ALL)
