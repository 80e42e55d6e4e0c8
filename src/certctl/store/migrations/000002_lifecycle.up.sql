-- Profiles, renewal, approvals, groups of agents, bulk operations, and the search by name.
-- Every statement is guarded, so that the file can be run again on a half-migrated database.

ALTER TABLE certificate_profiles ADD COLUMN IF NOT EXISTS spiffe_uri_pattern text NOT NULL DEFAULT '';
ALTER TABLE certificate_profiles ADD COLUMN IF NOT EXISTS allow_short_lived boolean NOT NULL DEFAULT false;
ALTER TABLE certificate_profiles ADD COLUMN IF NOT EXISTS requires_approval boolean NOT NULL DEFAULT false;

-- A group holds the agents that fit every criterion given, those it names, and none it excludes.
CREATE TABLE IF NOT EXISTS agent_groups (
    id                 text PRIMARY KEY,
    name               text NOT NULL CONSTRAINT agent_groups_name_key UNIQUE,
    description        text NOT NULL DEFAULT '',
    match_os           text NOT NULL DEFAULT '',
    match_architecture text NOT NULL DEFAULT '',
    match_ip_cidr      cidr,
    match_version      text NOT NULL DEFAULT '',
    enabled            boolean NOT NULL DEFAULT true,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS agent_group_members (
    agent_group_id  text NOT NULL CONSTRAINT agent_group_members_agent_group_id_fkey REFERENCES agent_groups ON DELETE CASCADE,
    agent_id        text NOT NULL CONSTRAINT agent_group_members_agent_id_fkey REFERENCES agents ON DELETE CASCADE,
    membership_type text NOT NULL DEFAULT 'include' CHECK (membership_type IN ('include', 'exclude')),
    PRIMARY KEY (agent_group_id, agent_id)
);
CREATE INDEX IF NOT EXISTS agent_group_members_agent_idx ON agent_group_members (agent_id);
-- The address an agent reported, where it is one.
ALTER TABLE agents ADD COLUMN IF NOT EXISTS address inet;

-- Systems and architectures compare without case; a version is exact, `1.4.*`, or `>=1.4`.
CREATE OR REPLACE FUNCTION version_parts(version text) RETURNS integer[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT string_to_array(substring(version FROM '^v?([0-9]{1,6}(?:\.[0-9]{1,6})*)'), '.')::integer[]
$$;
CREATE OR REPLACE VIEW agent_group_membership AS
    SELECT g.id AS agent_group_id, a.id AS agent_id
    FROM agent_groups g CROSS JOIN agents a
    LEFT JOIN agent_group_members m ON m.agent_group_id = g.id AND m.agent_id = a.id
    WHERE g.enabled AND a.retired_at IS NULL AND CASE m.membership_type
        WHEN 'include' THEN true
        WHEN 'exclude' THEN false
        ELSE (g.match_os || g.match_architecture || g.match_version <> '' OR g.match_ip_cidr IS NOT NULL)
            AND (g.match_os = '' OR lower(g.match_os) = lower(a.os))
            AND (g.match_architecture = '' OR lower(g.match_architecture) = lower(a.architecture))
            AND (g.match_ip_cidr IS NULL OR coalesce(a.address <<= g.match_ip_cidr, false))
            AND CASE
                WHEN g.match_version = '' THEN true
                WHEN g.match_version LIKE '>=%' THEN
                    coalesce(version_parts(a.version) >= version_parts(substr(g.match_version, 3)), false)
                WHEN g.match_version LIKE '%.*' THEN
                    starts_with(a.version, rtrim(g.match_version, '*'))
                ELSE a.version = g.match_version END
        END;

ALTER TABLE renewal_policies ADD COLUMN IF NOT EXISTS certificate_profile_id text;
ALTER TABLE renewal_policies DROP CONSTRAINT IF EXISTS renewal_policies_certificate_profile_id_fkey;
ALTER TABLE renewal_policies ADD CONSTRAINT renewal_policies_certificate_profile_id_fkey
    FOREIGN KEY (certificate_profile_id) REFERENCES certificate_profiles ON DELETE RESTRICT;
ALTER TABLE renewal_policies ADD COLUMN IF NOT EXISTS agent_group_id text;
ALTER TABLE renewal_policies DROP CONSTRAINT IF EXISTS renewal_policies_agent_group_id_fkey;
ALTER TABLE renewal_policies ADD CONSTRAINT renewal_policies_agent_group_id_fkey
    FOREIGN KEY (agent_group_id) REFERENCES agent_groups ON DELETE RESTRICT;
ALTER TABLE renewal_policies ADD COLUMN IF NOT EXISTS alert_channels jsonb NOT NULL
    DEFAULT '{"informational": [], "warning": ["Webhook"], "critical": ["Webhook"]}';
ALTER TABLE renewal_policies ADD COLUMN IF NOT EXISTS alert_severity_map jsonb NOT NULL
    DEFAULT '{"30": "informational", "14": "warning", "7": "warning", "0": "critical"}';
CREATE INDEX IF NOT EXISTS renewal_policies_profile_idx ON renewal_policies (certificate_profile_id);
CREATE INDEX IF NOT EXISTS renewal_policies_group_idx ON renewal_policies (agent_group_id);

-- `watched` certificates are known and never touched. `renew_for` says in words why one is to be
-- renewed before its time; `retry_at` is when a renewal that failed for good is begun again.
ALTER TABLE managed_certificates ADD COLUMN IF NOT EXISTS source text NOT NULL DEFAULT '';
ALTER TABLE managed_certificates ADD COLUMN IF NOT EXISTS watched boolean NOT NULL DEFAULT false;
ALTER TABLE managed_certificates ADD COLUMN IF NOT EXISTS renew_for text;
ALTER TABLE managed_certificates ADD COLUMN IF NOT EXISTS retry_at timestamptz;
CREATE INDEX IF NOT EXISTS managed_certificates_renew_for_idx ON managed_certificates (id) WHERE renew_for IS NOT NULL;
CREATE INDEX IF NOT EXISTS managed_certificates_retry_idx ON managed_certificates (retry_at) WHERE retry_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS managed_certificates_updated_idx ON managed_certificates (updated_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS managed_certificates_name_idx ON managed_certificates (name COLLATE "C", id COLLATE "C");
CREATE INDEX IF NOT EXISTS managed_certificates_common_name_idx ON managed_certificates (common_name COLLATE "C", id COLLATE "C");
CREATE INDEX IF NOT EXISTS managed_certificates_environment_idx ON managed_certificates (environment COLLATE "C", id COLLATE "C");
CREATE INDEX IF NOT EXISTS managed_certificates_tags_idx ON managed_certificates USING gin (tags jsonb_path_ops);

-- The words of a certificate's names: what stands between dots, hyphens and other marks. A search
-- finds beginnings of words; no extension is needed for it.
CREATE OR REPLACE FUNCTION certificate_words(name text, sans text[]) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_to_tsvector(array_remove(
        regexp_split_to_array(lower(name || ' ' || sans::text), '[^a-z0-9]+'), ''))
$$;
CREATE INDEX IF NOT EXISTS managed_certificates_words_idx
    ON managed_certificates USING gin (certificate_words(name, sans));

-- What the CA suggests for a live version (RFC 9773): the window, the moment drawn in it, why, and
-- when to ask again.
ALTER TABLE certificate_versions ADD COLUMN IF NOT EXISTS suggested_start timestamptz;
ALTER TABLE certificate_versions ADD COLUMN IF NOT EXISTS suggested_end timestamptz;
ALTER TABLE certificate_versions ADD COLUMN IF NOT EXISTS suggested_at timestamptz;
ALTER TABLE certificate_versions ADD COLUMN IF NOT EXISTS explanation_url text;
ALTER TABLE certificate_versions ADD COLUMN IF NOT EXISTS ask_again_at timestamptz;
ALTER TABLE certificate_versions ADD COLUMN IF NOT EXISTS sealed_key bytea;
CREATE INDEX IF NOT EXISTS certificate_versions_suggested_idx ON certificate_versions (suggested_at)
    WHERE live AND suggested_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS certificate_versions_ask_idx ON certificate_versions (issuer_id, ask_again_at) WHERE live;
CREATE INDEX IF NOT EXISTS certificate_versions_created_idx ON certificate_versions (created_at);
-- Certificates of outside CAs are told apart by their fingerprint: serials are unique per CA only.
ALTER TABLE certificate_versions DROP CONSTRAINT IF EXISTS certificate_versions_serial_key;
CREATE UNIQUE INDEX IF NOT EXISTS certificate_versions_authority_serial_key
    ON certificate_versions (authority_id, serial_number) WHERE authority_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS certificate_versions_serial_idx ON certificate_versions (issuer_id, serial_number);

-- A deployment that failed for good is tried anew at `retry_at`.
ALTER TABLE certificate_target_mappings ADD COLUMN IF NOT EXISTS retry_at timestamptz;
CREATE INDEX IF NOT EXISTS certificate_target_mappings_retry_idx
    ON certificate_target_mappings (retry_at) WHERE retry_at IS NOT NULL;

-- What was asked for and what was decided; what came of it stands in the jobs and the audit trail.
CREATE TABLE IF NOT EXISTS approvals (
    id             text PRIMARY KEY,
    certificate_id text NOT NULL CONSTRAINT approvals_certificate_id_fkey REFERENCES managed_certificates ON DELETE CASCADE,
    profile_id     text NOT NULL CONSTRAINT approvals_profile_id_fkey REFERENCES certificate_profiles ON DELETE RESTRICT,
    requested_by   text NOT NULL,
    reason         text NOT NULL DEFAULT '',
    common_name    text NOT NULL,
    sans           text[] NOT NULL,
    issuer_id      text NOT NULL,
    state          text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'rejected', 'expired')),
    decided_by     text,
    decided_at     timestamptz,
    decision_note  text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT approvals_decision_check CHECK ((state = 'pending') = (decided_at IS NULL)),
    CONSTRAINT approvals_two_persons_check CHECK (state <> 'approved' OR decided_by <> requested_by)
);
CREATE UNIQUE INDEX IF NOT EXISTS approvals_pending_key ON approvals (certificate_id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS approvals_page_idx ON approvals (created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS approvals_certificate_idx ON approvals (certificate_id, created_at);
ALTER TABLE jobs ADD COLUMN IF NOT EXISTS approval_id text;
ALTER TABLE jobs DROP CONSTRAINT IF EXISTS jobs_approval_id_fkey;
ALTER TABLE jobs ADD CONSTRAINT jobs_approval_id_fkey
    FOREIGN KEY (approval_id) REFERENCES approvals ON DELETE SET NULL;
CREATE INDEX IF NOT EXISTS jobs_approval_idx ON jobs (approval_id) WHERE approval_id IS NOT NULL;
ALTER TABLE jobs ADD COLUMN IF NOT EXISTS sealed_key bytea;
CREATE INDEX IF NOT EXISTS jobs_type_idx ON jobs (type, created_at, id COLLATE "C");

-- One call for many certificates; its items are what is still to be done and what came of it.
CREATE TABLE IF NOT EXISTS bulk_operations (
    id            text PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('revoke', 'renew', 'reassign')),
    parameters    jsonb NOT NULL DEFAULT '{}',
    requested_by  text NOT NULL,
    actor         jsonb NOT NULL,
    state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'completed')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz
);
CREATE INDEX IF NOT EXISTS bulk_operations_open_idx ON bulk_operations (created_at) WHERE state <> 'completed';
CREATE INDEX IF NOT EXISTS bulk_operations_finished_idx ON bulk_operations (finished_at) WHERE finished_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS bulk_items (
    operation_id   text NOT NULL CONSTRAINT bulk_items_operation_id_fkey REFERENCES bulk_operations ON DELETE CASCADE,
    certificate_id text NOT NULL,
    outcome        text CHECK (outcome IN ('done', 'skipped', 'failed')),
    error          text,
    job_id         text,
    PRIMARY KEY (operation_id, certificate_id)
);
CREATE INDEX IF NOT EXISTS bulk_items_waiting_idx ON bulk_items (operation_id, certificate_id) WHERE outcome IS NULL;
