"""Rules over the inventory, and where they are broken."""

from __future__ import annotations

from typing import Any

from certctl.domain.access import Permission
from certctl.domain.policy import RuleType, Severity
from certctl.services import plain, policy
from certctl.web.api.common import Created, Id, In, NameText, Out, Page, Paged
from certctl.web.api.crud import crud
from certctl.web.gate import Call


class NewRule(In):
    """`config` holds the one setting of the type: `allowed_issuer_ids`, `allowed_domains`,
    `required_keys`, `allowed`, `lead_time_days` or `max_days`."""

    id: Id | None = None
    name: NameText
    type: RuleType
    config: dict[str, Any] = {}
    enabled: bool = True
    severity: Severity = Severity.WARNING
    blocking: bool = False


class RuleChange(In):
    name: NameText | None = None
    type: RuleType | None = None
    config: dict[str, Any] | None = None
    enabled: bool | None = None
    severity: Severity | None = None
    blocking: bool | None = None


class PolicyRule(Out):
    """A rule that is `blocking` refuses what breaks it; so does one whose severity reaches
    CERTCTL_POLICY_BLOCK_SEVERITY."""

    id: str
    name: str
    type: RuleType
    config: dict[str, Any]
    enabled: bool
    severity: Severity
    blocking: bool
    created_at: Created
    updated_at: Created


class Violation(Out):
    id: str
    certificate_id: str
    rule_id: str
    message: str
    severity: Severity
    created_at: Created
    resolved_at: Created | None


policies = crud(
    "/policies", plain.POLICY_RULES, create=NewRule, update=RuleChange, shown=PolicyRule
)


@policies.get("/{id}/violations", needs=Permission.POLICY_READ, answer=Page[Violation])
async def list_policy_violations(call: Call, id: str, page: Paged, resolved: bool = False) -> Any:
    """Where a rule is broken, newest first; with `resolved` where it was."""
    return await policy.violations(call.on, call.actor, id, page, resolved=resolved)
