"""Settings of the places outside the database where keys of CAs are made and stay."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator

from certctl.settings.forms import Duration, https_or_loopback, matching

Protection = Literal["SOFTWARE", "HSM"]
Endpoint = Annotated[str, AfterValidator(https_or_loopback)]


class KeyHomes(BaseModel):
    """What locates the keys. The credentials of a cloud are found as its library finds them."""

    pkcs11_module: Path | None = Field(
        None, description="Library of the PKCS#11 token where keys of CAs may be made"
    )
    pkcs11_token: str = Field("", description="Label of the token")
    pkcs11_pin: SecretStr = Field(SecretStr(""), description="The token's user PIN")
    aws_kms_region: Annotated[str, matching(r"[a-z]{2}(-[a-z]+)+-\d", "eu-central-1")] = Field(
        "", description="Region of the AWS KMS where keys of CAs may be made"
    )
    aws_kms_endpoint: Endpoint = Field("", description="URL of KMS; default: the region's own")
    aws_kms_alias_prefix: Annotated[str, matching(r"(?!aws/)[A-Za-z0-9/_-]{1,100}", "certctl/")] = (
        Field("certctl/", description="What the aliases of the keys begin with, after `alias/`")
    )
    gcp_kms_key_ring: Annotated[
        str,
        matching(
            r"projects/[\w:.-]+/locations/[\w-]+/keyRings/[\w-]{1,63}",
            "projects/pki/locations/europe-west3/keyRings/certctl",
        ),
    ] = Field("", description="Key ring of Google Cloud KMS where keys of CAs may be made")
    gcp_kms_protection_level: Protection = Field(
        "SOFTWARE", description="Whether new keys are made in SOFTWARE or in an HSM"
    )
    gcp_kms_endpoint: Endpoint = Field("", description="URL of KMS; default: Google's own")
    azure_key_vault_url: Annotated[
        str,
        matching(r"https://[A-Za-z0-9.-]{1,253}(:\d{1,5})?", "https://pki.vault.azure.net"),
    ] = Field("", description="Azure Key Vault where keys of CAs may be made")
    azure_key_vault_protection_level: Protection = Field(
        "SOFTWARE", description="Whether new keys are made in SOFTWARE or in an HSM"
    )
    signer_timeout: Duration = Field(
        timedelta(seconds=10),
        ge=timedelta(seconds=1),
        le=timedelta(minutes=2),
        description="Longest wait for a signature of a key outside the database",
    )

    @model_validator(mode="after")
    def _located(self) -> KeyHomes:
        if len({bool(self.pkcs11_module), bool(self.pkcs11_token), bool(self.pkcs11_pin)}) > 1:
            raise ValueError(
                "CERTCTL_PKCS11_MODULE, CERTCTL_PKCS11_TOKEN and CERTCTL_PKCS11_PIN go together"
            )
        if self.aws_kms_endpoint and not self.aws_kms_region:
            raise ValueError("CERTCTL_AWS_KMS_ENDPOINT goes together with CERTCTL_AWS_KMS_REGION")
        if self.gcp_kms_endpoint and not self.gcp_kms_key_ring:
            raise ValueError("CERTCTL_GCP_KMS_ENDPOINT goes together with CERTCTL_GCP_KMS_KEY_RING")
        return self
