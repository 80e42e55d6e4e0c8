"""Opens the places outside the database, named in the settings, where keys of CAs may live."""

from __future__ import annotations

from certctl.connectors.key_home import KeyHome
from certctl.connectors.signers.aws_kms import AwsKms
from certctl.connectors.signers.azure_key_vault import AzureKeyVault
from certctl.connectors.signers.gcp_kms import GcpKms
from certctl.connectors.signers.pkcs11 import Token
from certctl.settings import Settings


def key_homes(settings: Settings) -> dict[str, KeyHome]:
    """By the names that CAs know them by. Raises Unsafe when one cannot be used; whether it
    answers, its first signature says."""
    homes: dict[str, KeyHome] = {}
    if settings.pkcs11_module is not None:
        homes["pkcs11"] = Token(
            settings.pkcs11_module,
            settings.pkcs11_token,
            pin=settings.pkcs11_pin.get_secret_value(),
            timeout=settings.signer_timeout,
        )
    if settings.aws_kms_region:
        homes["aws-kms"] = AwsKms(
            settings.aws_kms_region,
            endpoint=settings.aws_kms_endpoint,
            alias_prefix=settings.aws_kms_alias_prefix,
            timeout=settings.signer_timeout,
        )
    if settings.gcp_kms_key_ring:
        homes["gcp-kms"] = GcpKms(
            settings.gcp_kms_key_ring,
            protection=settings.gcp_kms_protection_level,
            endpoint=settings.gcp_kms_endpoint,
            timeout=settings.signer_timeout,
        )
    if settings.azure_key_vault_url:
        homes["azure-key-vault"] = AzureKeyVault(
            settings.azure_key_vault_url,
            protection=settings.azure_key_vault_protection_level,
            timeout=settings.signer_timeout,
        )
    return homes
