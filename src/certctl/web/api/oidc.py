"""OpenID providers, and the roles that their groups lead to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from certctl.domain.access import Permission
from certctl.services import providers as service
from certctl.web.api.common import Created, Id, In, NameText, Out, changes
from certctl.web.gate import Call, Resource

oidc = Resource("/auth/oidc", tag="auth")
Url = Annotated[str, Field(min_length=1, max_length=1000)]
Secret = Annotated[str, Field(min_length=1, max_length=1000)]
Path = Annotated[str, Field(min_length=1, max_length=255)]
Format = Literal["string-array", "json-path"]
Scopes = Annotated[list[Annotated[str, Field(max_length=255)]], Field(max_length=50)]
Domains = Annotated[list[Annotated[str, Field(max_length=255)]], Field(max_length=200)]
Window = Annotated[int, Field(ge=1, le=600)]
Life = Annotated[int, Field(ge=60, le=86_400)]


class NewProvider(In):
    """`issuer_url` is exactly what the provider calls itself; `client_secret` is never shown."""

    name: NameText
    issuer_url: Url
    client_id: NameText
    client_secret: Secret = Field(repr=False)
    redirect_uri: Url
    groups_claim_path: Path = "groups"
    groups_claim_format: Format = "string-array"
    fetch_userinfo: bool = False
    scopes: Scopes = ["openid", "profile", "email"]
    allowed_email_domains: Domains = []
    iat_window_seconds: Window = 300
    jwks_cache_ttl_seconds: Life = 3600
    enabled: bool = True


class ProviderChange(In):
    name: NameText | None = None
    issuer_url: Url | None = None
    client_id: NameText | None = None
    client_secret: Secret | None = Field(None, repr=False)
    redirect_uri: Url | None = None
    groups_claim_path: Path | None = None
    groups_claim_format: Format | None = None
    fetch_userinfo: bool | None = None
    scopes: Scopes | None = None
    allowed_email_domains: Domains | None = None
    iat_window_seconds: Window | None = None
    jwks_cache_ttl_seconds: Life | None = None
    enabled: bool | None = None


class Provider(Out):
    id: str
    name: str
    issuer_url: str
    client_id: str
    redirect_uri: str
    groups_claim_path: str
    groups_claim_format: Format
    fetch_userinfo: bool
    scopes: list[str]
    allowed_email_domains: list[str]
    iat_window_seconds: int
    jwks_cache_ttl_seconds: int
    enabled: bool
    created_at: Created
    updated_at: Created


class Providers(Out):
    providers: list[Provider]


class KeysStatus(Out):
    """`refresh_count` and `rejected_jws_count` are over all replicas."""

    last_refresh_at: Created | None
    current_kids: list[str]
    refresh_count: int
    last_error: str
    rejected_jws_count: int
    iss_param_supported: bool


class Refreshed(Out):
    refreshed: bool


class Trial(In):
    """The other fields of a provider are taken, and not needed."""

    issuer_url: Url
    client_id: NameText | None = None
    client_secret: Secret | None = Field(None, repr=False)
    scopes: Scopes | None = None


class TrialResult(Out):
    discovery_succeeded: bool
    jwks_reachable: bool
    supported_alg_values: list[str]
    iss_param_supported: bool
    issuer_echo: str = ""
    authorization_url: str = ""
    token_url: str = ""
    jwks_uri: str = ""
    userinfo_endpoint: str = ""
    current_kids: list[str]
    errors: list[str]


class NewMapping(In):
    provider_id: Id
    group_name: NameText
    role_id: Id


class Mapping(Out):
    id: str
    provider_id: str
    group_name: str
    role_id: str
    created_at: Created


class Mappings(Out):
    mappings: list[Mapping]


@oidc.get("/providers", needs=Permission.AUTH_OIDC_LIST, answer=Providers, errors=())
async def list_providers(call: Call) -> Any:
    """Every provider, without its secret."""
    return {"providers": await service.every(call.on, call.actor)}


@oidc.post("/providers", needs=Permission.AUTH_OIDC_CREATE, answer=Provider)
async def create_provider(call: Call, body: NewProvider) -> Any:
    """A provider that people sign in by."""
    return await service.create(call.on, call.actor, body.model_dump())


@oidc.put("/providers/{id}", needs=Permission.AUTH_OIDC_EDIT, answer=Provider, errors=(404, 409))
async def update_provider(call: Call, id: str, body: ProviderChange) -> Any:
    """Change the given fields of a provider."""
    return await service.update(call.on, call.actor, id, changes(body))


@oidc.delete("/providers/{id}", needs=Permission.AUTH_OIDC_DELETE)
async def delete_provider(call: Call, id: str) -> None:
    """Remove a provider that nobody has come in by."""
    await service.delete(call.on, call.actor, id)


@oidc.get("/providers/{id}/jwks-status", needs=Permission.AUTH_OIDC_LIST, answer=KeysStatus)
async def get_provider_keys(call: Call, id: str) -> Any:
    """The keys that are known of a provider, and how asking for them went."""
    return await service.keys_of(call.on, call.actor, id)


@oidc.post(
    "/providers/{id}/refresh",
    needs=Permission.AUTH_OIDC_EDIT,
    answer=Refreshed,
    status=200,
    errors=(404, 502),
)
async def refresh_provider(call: Call, id: str) -> Any:
    """Ask a provider for its metadata and keys now."""
    await service.refresh(call.on, call.actor, id)
    return {"refreshed": True}


@oidc.post("/test", needs=Permission.AUTH_OIDC_CREATE, answer=TrialResult, status=200, errors=())
async def try_provider(call: Call, body: Trial) -> Any:
    """Ask a provider that is not configured yet; what fails is in `errors`."""
    return await service.try_out(call.on, call.actor, body.issuer_url)


@oidc.get("/group-mappings", needs=Permission.AUTH_OIDC_LIST, answer=Mappings, errors=())
async def list_mappings(call: Call, provider_id: Id) -> Any:
    """The roles that a provider's groups lead to."""
    return {"mappings": await service.mappings(call.on, call.actor, provider_id)}


@oidc.post("/group-mappings", needs=Permission.AUTH_OIDC_EDIT, answer=Mapping, errors=(409,))
async def create_mapping(call: Call, body: NewMapping) -> Any:
    """Let a group lead to a role, which may be no more than the caller has."""
    return await service.map_group(call.on, call.actor, **body.model_dump())


@oidc.delete("/group-mappings/{id}", needs=Permission.AUTH_OIDC_EDIT, errors=(404,))
async def delete_mapping(call: Call, id: str) -> None:
    """Take a mapping away; it counts at each person's next sign-in."""
    await service.unmap_group(call.on, call.actor, id)
