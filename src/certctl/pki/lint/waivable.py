"""What pkilint may find without blocking, where two people have said so. Our own rules, which keep
wrong keys, foreign names and CA rights out of what is signed, block always."""

from __future__ import annotations

from typing import Final

# Matters of form that change neither whose the certificate is nor what it allows. Whatever pkilint
# finds besides blocks, also in a later version of it.
WAIVABLE: Final = frozenset(
    {
        "pkix.authority_information_access_extension_critical",
        "pkix.authority_key_identifier_critical",
        "pkix.both_encipheronly_and_decipheronly_ku_set",
        "pkix.certificate_policies_anypolicy_has_prohibited_qualifier",
        "pkix.certificate_skid_extension_critical",
        "pkix.distribution_point_does_not_contain_name_or_issuer",
        "pkix.duplicate_certificate_policy_oids",
        "pkix.extended_key_usage_extension_with_timestamping_not_critical",
        "pkix.issuer_unique_id_present",
        "pkix.prohibited_qualified_statement_present",
        "pkix.rfc5280_certificate_policies_invalid_explicit_text_encoding",
        "pkix.rfc6818_certificate_policies_invalid_explicit_text_encoding",
        "pkix.sct_list_empty",
        "pkix.smime_capabilities_extension_critical",
        "pkix.subject_directory_attributes_extension_critical",
        "pkix.subject_information_access_extension_critical",
        "pkix.subject_unique_id_present",
    }
)


def why_never(code: str) -> str | None:
    """Why a finding of this code always blocks, or None where it may be passed over."""
    if code in WAIVABLE:
        return None
    return (
        "only matters of form are; keys and what they may do, serial numbers, issuers, names, "
        "times, the rights of CAs, and what cannot be read always block, for relying parties would "
        "not be safe"
    )
