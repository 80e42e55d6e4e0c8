"""`certctl oidc`: the providers that people sign in by, and what their groups lead to."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from certctl.cli.options import ApiCommand, api, group, say, show, show_rows
from certctl.cli.plain import DataFile, fields

oidc = group("OpenID providers: where people sign in, and the roles of their groups.")
providers = group(
    """The providers.

    \b
    certctl oidc providers test https://sso.example.test/realms/main
    certctl oidc providers add --from provider.yaml
    certctl oidc providers keys op-…
    """
)
mappings = group(
    """The roles that groups lead to.

    \b
    certctl oidc mappings add op-… admins r-admin
    certctl oidc mappings list op-…
    """
)
oidc.add_typer(providers, name="providers")
oidc.add_typer(mappings, name="mappings")
PROVIDERS: Final = ("id", "name", "issuer_url", "client_id", "enabled")
MAPPINGS: Final = ("id", "group_name", "role_id")
ProviderId = Annotated[str, typer.Argument(metavar="PROVIDER", help="The provider's id.")]


@providers.command("list", cls=ApiCommand)
def list_providers(ctx: typer.Context) -> None:
    """List the providers."""
    with api(ctx) as server:
        answer = server.get("auth", "oidc", "providers")
    show_rows(ctx, answer, answer["providers"], PROVIDERS)


@providers.command("test", cls=ApiCommand)
def test(
    ctx: typer.Context,
    issuer: Annotated[str, typer.Argument(metavar="URL", help="What the provider calls itself.")],
) -> None:
    """Ask a provider what it is, and keep nothing."""
    with api(ctx) as server:
        show(ctx, server.post("auth", "oidc", "test", body={"issuer_url": issuer}))


@providers.command("add", cls=ApiCommand)
def add(ctx: typer.Context, document: DataFile) -> None:
    """Add a provider from a document of its fields."""
    body = fields(document.read())
    with api(ctx) as server:
        show(ctx, server.post("auth", "oidc", "providers", body=body))


@providers.command("change", cls=ApiCommand)
def change(ctx: typer.Context, provider: ProviderId, document: DataFile) -> None:
    """Change the fields that a document names."""
    body = fields(document.read())
    with api(ctx) as server:
        show(ctx, server.put("auth", "oidc", "providers", provider, body=body))


@providers.command("keys", cls=ApiCommand)
def keys(ctx: typer.Context, provider: ProviderId) -> None:
    """Show which keys are known of a provider."""
    with api(ctx) as server:
        show(ctx, server.get("auth", "oidc", "providers", provider, "jwks-status"))


@providers.command("refresh", cls=ApiCommand)
def refresh(ctx: typer.Context, provider: ProviderId) -> None:
    """Ask a provider for its keys now."""
    with api(ctx) as server:
        answer = server.post("auth", "oidc", "providers", provider, "refresh")
    say(ctx, answer, f"provider {provider} is asked anew")


@providers.command("delete", cls=ApiCommand)
def delete(ctx: typer.Context, provider: ProviderId) -> None:
    """Remove a provider that nobody has come in by."""
    with api(ctx) as server:
        answer = server.delete("auth", "oidc", "providers", provider)
    say(ctx, answer, f"{provider} is deleted")


@mappings.command("list", cls=ApiCommand)
def list_mappings(ctx: typer.Context, provider: ProviderId) -> None:
    """List the roles of a provider's groups."""
    with api(ctx) as server:
        answer = server.get("auth", "oidc", "group-mappings", provider_id=provider)
    show_rows(ctx, answer, answer["mappings"], MAPPINGS)


@mappings.command("add", cls=ApiCommand)
def add_mapping(
    ctx: typer.Context,
    provider: ProviderId,
    group_name: Annotated[str, typer.Argument(metavar="GROUP", help="As the provider names it.")],
    role: Annotated[str, typer.Argument(metavar="ROLE", help="Id of the role.")],
) -> None:
    """Let a group lead to a role."""
    body = {"provider_id": provider, "group_name": group_name, "role_id": role}
    with api(ctx) as server:
        answer = server.post("auth", "oidc", "group-mappings", body=body)
    say(ctx, answer, f"group {group_name} leads to {role}: {answer['id']}")


@mappings.command("delete", cls=ApiCommand)
def delete_mapping(
    ctx: typer.Context,
    mapping: Annotated[str, typer.Argument(metavar="MAPPING", help="The mapping's id.")],
) -> None:
    """Take a mapping away; it counts at each person's next sign-in."""
    with api(ctx) as server:
        answer = server.delete("auth", "oidc", "group-mappings", mapping)
    say(ctx, answer, f"{mapping} is deleted")
