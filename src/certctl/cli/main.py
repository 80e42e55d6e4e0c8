"""The `certctl` command's half that speaks to the API, and the demonstration."""

from __future__ import annotations

import typer

from certctl.cli import ca_outside, ca_rollover
from certctl.cli.agents import agents
from certctl.cli.approvals import approvals
from certctl.cli.audit import audit
from certctl.cli.blocked import blocked_keys
from certctl.cli.bootstrap import bootstrap
from certctl.cli.bulk import bulk
from certctl.cli.ca import ca
from certctl.cli.certs import certs
from certctl.cli.demo.command import demo
from certctl.cli.exits import MEANINGS, OneSentence
from certctl.cli.groups import groups
from certctl.cli.issuers import issuers
from certctl.cli.jobs import jobs
from certctl.cli.keys import keys
from certctl.cli.notifications import digest, notifications
from certctl.cli.oidc import oidc
from certctl.cli.options import ApiCommand, CaFlag, KeyFlag, OutputFlag, ServerFlag
from certctl.cli.plain import addable
from certctl.cli.policies import rules
from certctl.cli.roles import roles
from certctl.cli.stats import stats
from certctl.cli.status import status
from certctl.cli.targets import targets
from certctl.cli.users import sessions, users
from certctl.cli.waivers import waivers
from certctl.cli.whoami import whoami

app = typer.Typer(
    cls=OneSentence,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=MEANINGS,
)


@app.callback()
def root(
    server: ServerFlag = None,
    ca_bundle: CaFlag = None,
    api_key_file: KeyFlag = None,
    output: OutputFlag = None,
) -> None:
    """certctl: certificates from order to revocation.

    \b
    certctl demo                                 see it all work on this machine
    certctl status                               is the server ready, and who am I?
    certctl certs list --status Expiring         what runs out soon
    certctl certs order www --san www.example.org --target web-1 --wait

    The server, its CA and the key are found by option, then environment, then client.toml in
    CERTCTL_DATA_DIR (default var), then defaults.
    """


app.add_typer(certs, name="certs")
app.add_typer(bulk, name="bulk")
app.add_typer(jobs, name="jobs")
app.add_typer(approvals, name="approvals")
app.add_typer(waivers, name="waivers")
app.add_typer(agents, name="agents")
app.add_typer(groups, name="groups")
app.add_typer(targets, name="targets")
app.add_typer(issuers, name="issuers")
for _name, _command in (ca_outside.COMMANDS | ca_rollover.COMMANDS).items():
    ca.command(_name, cls=ApiCommand)(_command)
app.add_typer(ca, name="ca")
app.add_typer(blocked_keys, name="blocked-keys")
app.add_typer(notifications, name="notifications")
app.add_typer(digest, name="digest")
app.add_typer(rules, name="rules")
app.add_typer(stats, name="stats")
app.add_typer(audit, name="audit")
app.add_typer(keys, name="keys")
app.add_typer(roles, name="roles")
app.add_typer(users, name="users")
app.add_typer(sessions, name="sessions")
app.add_typer(oidc, name="oidc")
for path, noun, columns in (
    ("profiles", "Profiles: what a certificate may be", ("id", "name", "version", "enabled")),
    ("renewal-policies", "Renewal policies: when", ("id", "name", "renewal_window_days")),
    ("owners", "Owners: who answers for a certificate", ("id", "name", "email", "team_id")),
    ("teams", "Teams: whose a certificate is", ("id", "name", "description")),
):
    name = path.removeprefix("renewal-")
    examples = f"{noun}.\n\n\b\ncertctl {name} list\ncertctl {name} add --from {name}.yaml\n"
    app.add_typer(addable(path, examples, columns), name=name)
app.command("status", cls=ApiCommand)(status)
app.command("whoami", cls=ApiCommand)(whoami)
app.command("bootstrap", cls=ApiCommand)(bootstrap)
app.command("demo")(demo)
