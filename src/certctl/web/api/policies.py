"""Rules over the inventory, and where they are broken."""

from __future__ import annotations

from typing import Any

from certctl.domain.access import Permission
from certctl.domain.policy import FoundOn, RuleType, Severity
from certctl.services import plain, policy
from certctl.web.api import common
from certctl.web.api.certificates import certificates
from certctl.web.api.common import Id, In, NameText, Out, Page, Paged
from certctl.web.gate import Call, Created, Resource

policies = Resource("/policies", tag="policies")


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
    created_at: common.Created
    updated_at: common.Created


class Violation(Out):
    """`found_on` tells whether the certificate as it stands broke the rule, or what was about to
    be issued; the latter stands until an issuance keeps the rule."""

    id: str
    certificate_id: str
    rule_id: str
    message: str
    severity: Severity
    found_on: FoundOn
    created_at: common.Created
    resolved_at: common.Created | None


@policies.get(needs=Permission.POLICY_READ, answer=Page[PolicyRule], errors=())
async def list_policy_rule(call: Call, page: Paged) -> Any:
    """All rules, by page or by cursor."""
    return await plain.page(call.on, call.actor, plain.POLICY_RULES, page)


@policies.post(needs=Permission.POLICY_EDIT, answer=PolicyRule)
async def create_policy_rule(call: Call, body: NewRule) -> Any:
    """A new rule; the inventory is judged by it at once."""
    row = await policy.create_rule(
        call.on, call.actor, values=common.given(body), idempotency_key=call.idempotency_key
    )
    return Created(row, plain.etag(row["updated_at"]))


@policies.get("/{id}", needs=Permission.POLICY_READ, answer=PolicyRule)
async def get_policy_rule(call: Call, id: str) -> Any:
    """One rule."""
    row = await plain.get(call.on, call.actor, plain.POLICY_RULES, id)
    return Created(row, plain.etag(row["updated_at"]))


@policies.put("/{id}", needs=Permission.POLICY_EDIT, answer=PolicyRule)
async def update_policy_rule(call: Call, id: str, body: RuleChange) -> Any:
    """Change the given fields of a rule; the inventory is judged anew."""
    row = await policy.change_rule(
        call.on, call.actor, id, changes=common.changes(body), if_match=call.if_match
    )
    return Created(row, plain.etag(row["updated_at"]))


@policies.delete("/{id}", needs=Permission.POLICY_DELETE)
async def delete_policy_rule(call: Call, id: str) -> None:
    """Remove a rule with its violations."""
    await plain.delete(call.on, call.actor, plain.POLICY_RULES, id)


@policies.get("/{id}/violations", needs=Permission.POLICY_READ, answer=Page[Violation])
async def list_policy_violations(
    call: Call, id: str, page: Paged, resolved: bool = False, severity: Severity | None = None
) -> Any:
    """Where a rule is broken, newest first; with `resolved` where it was."""
    return await policy.violations(
        call.on, call.actor, id, page, resolved=resolved, severity=severity
    )


@certificates.get("/{id}/violations", needs=Permission.CERT_READ, answer=Page[Violation])
async def list_certificate_violations(
    call: Call,
    id: str,
    page: Paged,
    resolved: bool = False,
    rule_id: Id | None = None,
    severity: Severity | None = None,
) -> Any:
    """The rules that a certificate breaks, newest first; with `resolved` those that it broke."""
    return await policy.violations_of(
        call.on, call.actor, id, page, resolved=resolved, rule_id=rule_id, severity=severity
    )
