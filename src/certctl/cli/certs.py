"""`certctl certs`: order certificates and see them through their life."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from certctl.cli import find
from certctl.cli.export import export
from certctl.cli.importing import import_
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, group, say, show
from certctl.cli.plain import changeable
from certctl.cli.policies import violations_of
from certctl.cli.waiting import TimeoutFlag, WaitFlag, until_done

certs = group(
    """Certificates under management; an ID is an id or a unique name.

    \b
    certctl certs list --status Expiring         what runs out soon
    certctl certs order www --san www.example.org --target web-1 --wait
                                                 order, deploy, stay until it is served
    certctl certs change www --from www.yaml     other names, owner, targets, tags …
    certctl certs renew www --wait               a new key and certificate, deployed
    certctl certs revoke www --reason superseded
    """
)
SHOWN: Final = ("id", "name", "common_name", "status", "expires_at", "issuer_id")
VERSIONS: Final = ("id", "serial_number", "not_after", "live", "revoked_at", "agent_id")
CertificateId = Annotated[str, typer.Argument(metavar="ID", help="Id or unique name.")]
CsrFile = Annotated[
    typer.FileText | None,
    typer.Option("--csr", metavar="FILE", help="CSR in PEM that brings the key; - for stdin."),
]


@certs.command("list", cls=ApiCommand)
def list_(
    ctx: typer.Context,
    status: Annotated[str | None, typer.Option(help="Such as Active, Expiring, Revoked.")] = None,
    environment: Annotated[str | None, typer.Option(help="Only this environment.")] = None,
    owner: Annotated[str | None, typer.Option(metavar="ID", help="Only of this owner.")] = None,
    team: Annotated[str | None, typer.Option(metavar="ID", help="Only of this team.")] = None,
    issuer: Annotated[str | None, typer.Option(metavar="ID", help="Only of this issuer.")] = None,
    agent: Annotated[str | None, typer.Option(metavar="ID", help="Only of this agent.")] = None,
    profile: Annotated[str | None, typer.Option(metavar="ID", help="Only this profile.")] = None,
    policy: Annotated[str | None, typer.Option(metavar="ID", help="Only this policy.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only with this tag; may repeat.")
    ] = None,
    search: Annotated[
        str | None, typer.Option(help="Beginnings of words of the name or a SAN.")
    ] = None,
    expires_before: Annotated[
        str | None, typer.Option(metavar="TIME", help="RFC 3339, such as 2030-01-31T00:00:00Z.")
    ] = None,
    sort: Annotated[str | None, typer.Option(help="Such as name or -expiresAt.")] = None,
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List certificates."""
    query = {
        "status": status,
        "environment": environment,
        "owner_id": owner,
        "team_id": team,
        "issuer_id": issuer,
        "agent_id": agent,
        "profile_id": profile,
        "renewal_policy_id": policy,
        "tag": tag,
        "search": search,
        "expires_before": expires_before,
        "sort": sort,
    }
    with api(ctx) as server:
        answer = rows(server, "certificates", query=query, page=(page, per_page), walk=everything)
    show(ctx, answer, SHOWN)


@certs.command("get", cls=ApiCommand)
def get(ctx: typer.Context, certificate: CertificateId) -> None:
    """Show one certificate."""
    with api(ctx) as server:
        show(ctx, find.one(server, "certificates", certificate))


@certs.command("order", cls=ApiCommand)
def order(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name in the inventory.")],
    common_name: Annotated[
        str | None, typer.Option(help="Common name; default: the first --san, else NAME.")
    ] = None,
    san: Annotated[
        list[str] | None, typer.Option(help="A DNS name or IP address; may be repeated.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Where to deploy, by id or name; may be repeated."),
    ] = None,
    csr: CsrFile = None,
    owner: Annotated[str, typer.Option(metavar="ID", help="Who answers for it.")] = "o-default",
    team: Annotated[str, typer.Option(metavar="ID", help="Whose it is.")] = "t-default",
    issuer: Annotated[str, typer.Option(metavar="ID", help="Who signs.")] = "iss-local",
    policy: Annotated[str, typer.Option(metavar="ID", help="Renewal policy.")] = "rp-default",
    profile: Annotated[str, typer.Option(metavar="ID", help="Profile.")] = "prof-default",
    environment: Annotated[str, typer.Option(help="Such as production.")] = "",
    wait: WaitFlag = False,
    timeout: TimeoutFlag = 120,
) -> None:
    """Order a certificate.

    A target's agent makes the key on its host and deploys; --csr brings the key otherwise.
    """
    names = san or []
    body: dict[str, Any] = {
        "name": name,
        "common_name": common_name or (names[0] if names else name),
        "sans": names,
        "environment": environment,
        "owner_id": owner,
        "team_id": team,
        "issuer_id": issuer,
        "renewal_policy_id": policy,
        "certificate_profile_id": profile,
        "csr_pem": csr.read() if csr else None,
    }
    with api(ctx) as server:
        body["target_ids"] = [find.id_of(server, "targets", each) for each in target or []]
        row = server.post("certificates", body=body)
        if wait:
            row = until_done(server, row["id"], job_ids=None, timeout=timeout)
    show(ctx, row)


@certs.command("renew", cls=ApiCommand)
def renew(
    ctx: typer.Context,
    certificate: CertificateId,
    csr: CsrFile = None,
    force: Annotated[
        bool, typer.Option("--force", help="Cancel a renewal that is under way first.")
    ] = False,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = 120,
) -> None:
    """Renew a certificate with a new key, and deploy it."""
    with api(ctx) as server:
        found = find.id_of(server, "certificates", certificate)
        body = {"csr_pem": csr.read() if csr else None, "force": force}
        answer = server.post("certificates", found, "renew", body=body)
        if wait:
            row = until_done(server, found, job_ids=answer["job_ids"], timeout=timeout)
            return show(ctx, row)
    return say(ctx, answer, f"renewal of {found} is under way: {', '.join(answer['job_ids'])}")


@certs.command("revoke", cls=ApiCommand)
def revoke(
    ctx: typer.Context,
    certificate: CertificateId,
    reason: Annotated[
        str,
        typer.Option(help="RFC 5280 reason: keyCompromise, superseded, cessationOfOperation, …"),
    ],
) -> None:
    """Revoke every unexpired version; OCSP says so at once."""
    with api(ctx) as server:
        found = find.id_of(server, "certificates", certificate)
        answer = server.post("certificates", found, "revoke", body={"reason": reason})
    say(ctx, answer, f"{found} is revoked, {answer['revoked_versions']} version(s)")


@certs.command("versions", cls=ApiCommand)
def versions(
    ctx: typer.Context,
    certificate: CertificateId,
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List what has been issued, newest first; the PEM chain is in json and yaml."""
    with api(ctx) as server:
        found = find.id_of(server, "certificates", certificate)
        answer = rows(
            server, "certificates", found, "versions", page=(page, per_page), walk=everything
        )
    show(ctx, answer, VERSIONS)


@certs.command("deploy", cls=ApiCommand)
def deploy(
    ctx: typer.Context,
    certificate: CertificateId,
    target: Annotated[
        str | None, typer.Option(metavar="ID", help="Only to this target, by id or name.")
    ] = None,
    wait: WaitFlag = False,
    timeout: TimeoutFlag = 120,
) -> None:
    """Deploy the live version again."""
    with api(ctx) as server:
        found = find.id_of(server, "certificates", certificate)
        body = {"target_id": find.id_of(server, "targets", target)} if target else {}
        answer = server.post("certificates", found, "deploy", body=body)
        if wait:
            row = until_done(server, found, job_ids=answer["job_ids"], timeout=timeout)
            return show(ctx, row)
    return say(ctx, answer, f"deployment of {found} is under way: {', '.join(answer['job_ids'])}")


@certs.command("archive", cls=ApiCommand)
def archive(ctx: typer.Context, certificate: CertificateId) -> None:
    """Take a certificate out of management; its record stays."""
    with api(ctx) as server:
        found = find.id_of(server, "certificates", certificate)
        answer = server.delete("certificates", found)
    say(ctx, answer, f"{found} is archived")


changeable(certs, "certificates")
certs.command("import", cls=ApiCommand)(import_)
certs.command("export", cls=ApiCommand)(export)
certs.command("violations", cls=ApiCommand)(violations_of)
