DROP TABLE IF EXISTS bulk_items, bulk_operations;
DROP INDEX IF EXISTS jobs_type_idx, jobs_approval_idx;
-- What waits for an approval cannot be told to an older server, which would let it run.
UPDATE jobs SET status = 'Cancelled', completed_at = now(), last_error = 'approvals were removed'
    WHERE status = 'AwaitingApproval';
ALTER TABLE jobs DROP COLUMN IF EXISTS approval_id, DROP COLUMN IF EXISTS sealed_key;
DROP TABLE IF EXISTS approvals;
ALTER TABLE certificate_target_mappings DROP COLUMN IF EXISTS retry_at;
DROP INDEX IF EXISTS certificate_versions_serial_idx, certificate_versions_authority_serial_key,
    certificate_versions_created_idx, certificate_versions_ask_idx, certificate_versions_suggested_idx;
ALTER TABLE certificate_versions DROP COLUMN IF EXISTS sealed_key, DROP COLUMN IF EXISTS ask_again_at,
    DROP COLUMN IF EXISTS explanation_url, DROP COLUMN IF EXISTS suggested_at,
    DROP COLUMN IF EXISTS suggested_end, DROP COLUMN IF EXISTS suggested_start;
ALTER TABLE certificate_versions DROP CONSTRAINT IF EXISTS certificate_versions_serial_key;
ALTER TABLE certificate_versions ADD CONSTRAINT certificate_versions_serial_key UNIQUE (issuer_id, serial_number);
DROP INDEX IF EXISTS managed_certificates_words_idx, managed_certificates_tags_idx,
    managed_certificates_environment_idx, managed_certificates_common_name_idx,
    managed_certificates_name_idx, managed_certificates_updated_idx,
    managed_certificates_retry_idx, managed_certificates_renew_for_idx;
DROP FUNCTION IF EXISTS certificate_words(text, text[]);
ALTER TABLE managed_certificates DROP COLUMN IF EXISTS retry_at, DROP COLUMN IF EXISTS renew_for,
    DROP COLUMN IF EXISTS watched, DROP COLUMN IF EXISTS source;
ALTER TABLE renewal_policies DROP COLUMN IF EXISTS alert_severity_map,
    DROP COLUMN IF EXISTS alert_channels, DROP COLUMN IF EXISTS agent_group_id,
    DROP COLUMN IF EXISTS certificate_profile_id;
DROP VIEW IF EXISTS agent_group_membership;
DROP FUNCTION IF EXISTS version_parts(text);
ALTER TABLE agents DROP COLUMN IF EXISTS address;
DROP TABLE IF EXISTS agent_group_members, agent_groups;
ALTER TABLE certificate_profiles DROP COLUMN IF EXISTS requires_approval,
    DROP COLUMN IF EXISTS allow_short_lived, DROP COLUMN IF EXISTS spiffe_uri_pattern;
