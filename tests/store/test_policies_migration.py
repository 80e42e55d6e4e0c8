"""The migration of the policy tables over rows that somebody else left in half-made ones."""

from __future__ import annotations

import pytest

from certctl.domain.errors import Unsafe
from certctl.store import migrate
from tests.store.running import create_database, run, schema

(POLICIES,) = (each for each in migrate.known() if each.name == "policies")
CREATE_RULES, CREATE_VIOLATIONS = migrate.statements(POLICIES.up.read_text())[:2]
A_RULE = """INSERT INTO policy_rules (id, name, type, severity)
            VALUES ('pr-{n}', 'rule {n}', '{kind}', '{severity}')"""


async def half_made(server: str, *rows: str) -> str:
    """A database whose policy tables stand without their constraints."""
    url = create_database(server)
    await migrate.migrate(url, to=POLICIES.version - 1)
    run(url, CREATE_RULES, CREATE_VIOLATIONS, *rows)
    return url


async def test_severities_in_another_case_are_brought_into_ours(postgres: str) -> None:
    written = ("warning", "ERROR", "Critical")
    rows = [
        A_RULE.format(n=n, kind="AllowedDomains", severity=each) for n, each in enumerate(written)
    ]
    url = await half_made(postgres, *rows)
    await migrate.migrate(url, to=POLICIES.version)
    found = run(url, "SELECT severity FROM policy_rules ORDER BY id")
    assert found == [("Warning",), ("Error",), ("Critical",)]
    whole = create_database(postgres)
    await migrate.migrate(whole, to=POLICIES.version)
    assert schema(url) == schema(whole)


@pytest.mark.parametrize(
    ("kind", "severity", "constraint"),
    [
        ("AllowedDomains", "Fatal", "policy_rules_severity_check"),
        ("Other", "Error", "policy_rules_type_check"),
    ],
)
async def test_a_rule_that_cannot_be_ours_is_told_and_kept(
    postgres: str, kind: str, severity: str, constraint: str
) -> None:
    url = await half_made(postgres, A_RULE.format(n=1, kind=kind, severity=severity))
    with pytest.raises(Unsafe, match=constraint):
        await migrate.migrate(url, to=POLICIES.version)
    assert run(url, "SELECT type, severity FROM policy_rules") == [(kind, severity)]
    assert POLICIES.version not in {each.version for each in (await migrate.status(url)).applied}
