"""Who may do what, and where: grants, scopes and actors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from certctl.domain.errors import NotAllowed
from certctl.domain.permission import ANY_ACTOR, ROLES, AnyActor, Needs, Permission

__all__ = [
    "ANY_ACTOR", "EVERYTHING", "NOTHING", "ROLES", "Actor", "ActorType", "AnyActor", "Grant",
    "Needs", "Permission", "Scope", "actor_with_roles", "granted", "system",
]  # fmt: skip


@dataclass(frozen=True)
class Scope:
    """A part of the estate: everything, or what belongs to the named issuers and profiles."""

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

    def has(self, *, issuer_id: str | None = None, profile_id: str | None = None) -> bool:
        """Whether what belongs to this issuer and this profile is inside."""
        return self.everything or issuer_id in self.issuers or profile_id in self.profiles

    def __or__(self, other: Scope) -> Scope:
        return Scope(
            self.everything or other.everything,
            self.issuers | other.issuers,
            self.profiles | other.profiles,
        )


EVERYTHING: Final = Scope(everything=True)
NOTHING: Final = Scope()


@dataclass(frozen=True, order=True)
class Grant:
    """A permission for everything, for one issuer or for one profile."""

    permission: Permission
    issuer_id: str | None = None
    profile_id: str | None = None

    @property
    def scope(self) -> Scope:
        if self.issuer_id is not None:
            return Scope(issuers=frozenset({self.issuer_id}))
        if self.profile_id is not None:
            return Scope(profiles=frozenset({self.profile_id}))
        return EVERYTHING

    def within(self, *, issuer_id: str | None, profile_id: str | None) -> Grant | None:
        """This grant as it is when given for one issuer or profile only; None when nothing of it
        is left."""
        if issuer_id is None and profile_id is None:
            return self
        narrow = Grant(self.permission, issuer_id, profile_id)
        return narrow if self.scope.everything or self == narrow else None


def granted(grants: Iterable[Grant]) -> dict[Permission, Scope]:
    """What a set of grants adds up to."""
    together: dict[Permission, Scope] = {}
    for grant in grants:
        together[grant.permission] = together.get(grant.permission, NOTHING) | grant.scope
    return together


class ActorType(StrEnum):
    USER = "User"
    SYSTEM = "System"
    AGENT = "Agent"
    API_KEY = "APIKey"
    ANONYMOUS = "Anonymous"


@dataclass(frozen=True)
class Actor:
    """A caller whose identity is established. Every change takes one. `session_id` is the browser
    session that a person comes by."""

    id: str
    type: ActorType
    roles: tuple[str, ...] = ()
    permissions: Mapping[Permission, Scope] = field(default_factory=dict)
    agent_id: str | None = None
    session_id: str | None = field(default=None, compare=False)
    address: str | None = field(default=None, compare=False)
    request_id: str | None = field(default=None, compare=False)

    def may(self, needs: Needs) -> bool:
        """Whether the actor holds the permission at all, be it for a part only."""
        return isinstance(needs, AnyActor) or needs in self.permissions

    def scope(self, needs: Permission) -> Scope:
        """Where the actor may use `needs`; an agent sees nothing but its own routes' answers.

        Raises:
            NotAllowed: when the actor does not hold the permission at all.
        """
        if not self.may(needs):
            raise NotAllowed(f"this needs the permission {needs}")
        return NOTHING if self.agent_id is not None else self.permissions[needs]

    def everywhere(self, needs: Permission) -> None:
        """Raises NotAllowed unless the actor holds `needs` for everything: for what belongs to no
        issuer and no profile."""
        if not self.scope(needs).everything:
            raise NotAllowed(f"this needs the permission {needs} for everything, not for a part")

    def holds(self, grant: Grant) -> bool:
        """Whether a grant is no more than the actor has."""
        scope = self.permissions.get(grant.permission, NOTHING)
        return scope.has(issuer_id=grant.issuer_id, profile_id=grant.profile_id)

    @property
    def is_admin(self) -> bool:
        """Information for people; nothing is decided by it."""
        return self.type is not ActorType.SYSTEM and all(
            self.permissions.get(each, NOTHING).everything for each in Permission
        )


def actor_with_roles(
    name: str,
    roles: tuple[str, ...],
    *,
    kind: ActorType = ActorType.API_KEY,
    agent_id: str | None = None,
) -> Actor:
    """An actor that holds the built-in `roles` for everything."""
    permissions = granted(Grant(each) for role in roles for each in ROLES[role])
    return Actor(id=name, type=kind, roles=roles, permissions=permissions, agent_id=agent_id)


def system(name: str) -> Actor:
    """The platform itself, acting for a task such as `renewal` or `sealer`."""
    everything = dict.fromkeys(Permission, EVERYTHING)
    return Actor(id=f"system:{name}", type=ActorType.SYSTEM, permissions=everything)
