"""Lint findings that two people let pass for a time."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from certctl.domain.access import Permission
from certctl.services import lint_waivers as service
from certctl.services.lint_waivers import Wish
from certctl.web.api import common
from certctl.web.api.common import Created, Id, In, Moment, Out, Page, Paged
from certctl.web.gate import Call, Resource

lint_waivers = Resource("/lint-waivers", tag="profiles")
State = Literal["pending", "approved", "rejected", "withdrawn"]
Code = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}\.[a-z0-9_]{1,128}$")]
Words = Annotated[str, Field(min_length=1, max_length=2000)]
P = Permission


class LintWaiver(Out):
    """`in_force`: approved, not withdrawn, and not over."""

    id: str
    profile_id: str
    code: str
    reason: str
    ends_at: Created
    requested_by: str
    state: State
    in_force: bool
    decided_by: str | None
    decided_at: Created | None
    decision_note: str | None
    withdrawn_by: str | None
    withdrawn_at: Created | None
    created_at: Created
    updated_at: Created


class NewLintWaiver(In):
    profile_id: Id
    code: Code
    reason: Words
    ends_at: Moment


class WaiverDecision(In):
    note: Annotated[str, Field(max_length=2000)] | None = None


@lint_waivers.get(needs=P.PROFILE_READ, answer=Page[LintWaiver], errors=())
async def list_lint_waivers(
    call: Call,
    page: Paged,
    state: State | None = None,
    profile_id: Id | None = None,
    code: Code | None = None,
) -> Any:
    """Lint waivers, newest first."""
    chosen = common.filters(state=state, profile_id=profile_id, code=code)
    return await service.page(call.on, call.actor, page, filters=chosen)


@lint_waivers.post(needs=P.PROFILE_EDIT, answer=LintWaiver)
async def ask_for_lint_waiver(call: Call, body: NewLintWaiver) -> Any:
    """Ask that findings of one lint code do not block one profile, until a moment within a year. A
    second person decides; codes that keep relying parties safe are refused."""
    return await service.ask(call.on, call.actor, Wish(**body.model_dump()))


@lint_waivers.get("/{id}", needs=P.PROFILE_READ, answer=LintWaiver)
async def get_lint_waiver(call: Call, id: str) -> Any:
    """One lint waiver."""
    return await service.get(call.on, call.actor, id)


@lint_waivers.post(
    "/{id}/approve", needs=P.APPROVAL_APPROVE, answer=LintWaiver, status=200, errors=(404, 409)
)
async def approve_lint_waiver(call: Call, id: str, body: WaiverDecision | None = None) -> Any:
    """Let findings of the code pass from now on. Whoever asked is refused."""
    return await service.approve(call.on, call.actor, id, note=body.note if body else None)


@lint_waivers.post(
    "/{id}/reject", needs=P.APPROVAL_REJECT, answer=LintWaiver, status=200, errors=(404, 409)
)
async def reject_lint_waiver(call: Call, id: str, body: WaiverDecision | None = None) -> Any:
    """Leave the code as it is; the note is the reason."""
    return await service.reject(call.on, call.actor, id, note=body.note if body else None)


@lint_waivers.post(
    "/{id}/withdraw", needs=P.PROFILE_EDIT, answer=LintWaiver, status=200, errors=(404, 409)
)
async def withdraw_lint_waiver(call: Call, id: str, body: WaiverDecision | None = None) -> Any:
    """End it at once: findings of the code block again."""
    return await service.withdraw(call.on, call.actor, id, note=body.note if body else None)
