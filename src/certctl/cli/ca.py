"""`certctl ca`: our own CAs as a tree."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from certctl.cli import find
from certctl.cli.listing import AllFlag, PageFlag, PerPageFlag, rows
from certctl.cli.options import ApiCommand, api, group, say, show

ca = group(
    """The CAs of this server: a tree for each issuer of type GenericCA.

    \b
    certctl ca list
    certctl ca create "Issuing 2027" --parent ica-…          it signs from now on
    certctl ca retire ica-…                                  the old one signs nothing new
    certctl ca retire ica-… --confirm                        once nothing of it is in use
    certctl ca csr "Issuing" --issuer Shop                   for an enterprise root to sign
    certctl ca install ica-… ca.pem --chain above.pem        what it has signed
    certctl ca create "New root" --replaces ica-…            two roots, side by side
    certctl ca recertify ica-… --parent ica-…                a certificate from the new one too
    certctl ca cutover ica-… --parent ica-…                  chains go by it from now on
    """
)
COLUMNS: Final = (
    "id", "name", "parent_ca_id", "state", "key_home", "path_len_constraint", "not_after",
)  # fmt: skip
CaId = Annotated[str, typer.Argument(metavar="CA", help="The CA's id.")]
IssuerFlag = Annotated[str, typer.Option("--issuer", metavar="ID", help="Id or name.")]


@ca.command("list", cls=ApiCommand)
def list_(
    ctx: typer.Context,
    issuer: IssuerFlag = "iss-local",
    page: PageFlag = 1,
    per_page: PerPageFlag = 50,
    everything: AllFlag = False,
) -> None:
    """List the CAs of an issuer, oldest first."""
    with api(ctx) as server:
        found = find.id_of(server, "issuers", issuer)
        answer = rows(
            server, "issuers", found, "intermediates", page=(page, per_page), walk=everything
        )
    show(ctx, answer, COLUMNS)


@ca.command("get", cls=ApiCommand)
def get(ctx: typer.Context, ca_id: CaId) -> None:
    """Show one, with the chain above it."""
    with api(ctx) as server:
        show(ctx, server.get("intermediates", ca_id))


@ca.command("create", cls=ApiCommand)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its common name.")],
    issuer: IssuerFlag = "iss-local",
    parent: Annotated[
        str | None, typer.Option(metavar="CA", help="The CA above it; without one it is a root.")
    ] = None,
    replaces: Annotated[
        str | None, typer.Option(metavar="CA", help="The root that it is to follow.")
    ] = None,
    algorithm: Annotated[str, typer.Option(help="ECDSA-P256, ECDSA-P384, RSA-3072, …")] = (
        "ECDSA-P256"
    ),
    key_home: Annotated[
        str,
        typer.Option(
            help="Where the key is made and stays: sealed, pkcs11, aws-kms, gcp-kms or "
            "azure-key-vault."
        ),
    ] = "sealed",
    days: Annotated[
        int | None, typer.Option(help="Its life, at most that of the CA above.")
    ] = None,
    path_length: Annotated[
        int | None, typer.Option(help="How many CAs may stand in a row below it.")
    ] = None,
    permit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this domain or network; may repeat."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Never this domain or network; may repeat."),
    ] = None,
) -> None:
    """Create a CA. When none can stand below it, it signs the issuer's leaves from now on."""
    body: dict[str, Any] = {
        "name": name,
        "parent_ca_id": parent,
        "replaces": replaces,
        "algorithm": algorithm,
        "key_home": key_home,
        "ttl_days": days,
        "path_len_constraint": path_length,
    }
    if permit or exclude:
        body["name_constraints"] = [{"permitted": permit or [], "excluded": exclude or []}]
    with api(ctx) as server:
        found = find.id_of(server, "issuers", issuer)
        answer = server.post("issuers", found, "intermediates", body=body)
    say(ctx, answer, f"CA {answer['id']} is {answer['state']} until {answer['not_after']}")


@ca.command("retire", cls=ApiCommand)
def retire(
    ctx: typer.Context,
    ca_id: CaId,
    confirm: Annotated[bool, typer.Option("--confirm", help="The second stage.")] = False,
    note: Annotated[str, typer.Option(metavar="WORDS", help="For the audit trail.")] = "",
) -> None:
    """Let a CA sign nothing new; with --confirm end one that is retiring."""
    body = {"confirm": confirm, "note": note}
    with api(ctx) as server:
        answer = server.post("intermediates", ca_id, "retire", body=body)
    say(ctx, answer, f"CA {ca_id} is {answer['state']}")
