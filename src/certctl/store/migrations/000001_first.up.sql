-- Times are timestamptz in UTC. Texts that order a keyset are compared COLLATE "C".
-- Every statement is guarded, so that the file can be run again on a half-migrated database.

CREATE TABLE IF NOT EXISTS sealing_keys (
    id          text PRIMARY KEY,
    sealed      bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS teams (
    id          text PRIMARY KEY,
    name        text NOT NULL CONSTRAINT teams_name_key UNIQUE,
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS owners (
    id          text PRIMARY KEY,
    name        text NOT NULL,
    email       text NOT NULL DEFAULT '',
    team_id     text CONSTRAINT owners_team_id_fkey REFERENCES teams ON DELETE RESTRICT,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS owners_team_id_idx ON owners (team_id);

CREATE TABLE IF NOT EXISTS renewal_policies (
    id                     text PRIMARY KEY,
    name                   text NOT NULL CONSTRAINT renewal_policies_name_key UNIQUE,
    renewal_window_days    integer NOT NULL DEFAULT 30 CHECK (renewal_window_days BETWEEN 1 AND 365),
    auto_renew             boolean NOT NULL DEFAULT true,
    max_retries            integer NOT NULL DEFAULT 3 CHECK (max_retries BETWEEN 0 AND 10),
    retry_interval_seconds integer NOT NULL DEFAULT 3600 CHECK (retry_interval_seconds BETWEEN 60 AND 86400),
    alert_thresholds_days  integer[] NOT NULL DEFAULT '{30,14,7,0}',
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS certificate_profiles (
    id                     text PRIMARY KEY,
    name                   text NOT NULL CONSTRAINT certificate_profiles_name_key UNIQUE,
    description            text NOT NULL DEFAULT '',
    version                integer NOT NULL DEFAULT 1,
    allowed_key_algorithms jsonb NOT NULL DEFAULT '[{"algorithm": "ECDSA", "min_size": 256}, {"algorithm": "RSA", "min_size": 2048}]',
    max_ttl_seconds        integer NOT NULL DEFAULT 7776000 CHECK (max_ttl_seconds > 0),
    allowed_ekus           text[] NOT NULL DEFAULT '{serverAuth}',
    required_san_patterns  text[] NOT NULL DEFAULT '{}',
    must_staple            boolean NOT NULL DEFAULT false,
    allow_single_labels    boolean NOT NULL DEFAULT false,
    enabled                boolean NOT NULL DEFAULT true,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS issuers (
    id            text PRIMARY KEY,
    name          text NOT NULL CONSTRAINT issuers_name_key UNIQUE,
    type          text NOT NULL,
    config        jsonb NOT NULL DEFAULT '{}',
    sealed_config bytea,
    enabled       boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);

-- Our own CAs. A root has no parent.
CREATE TABLE IF NOT EXISTS authorities (
    id          text PRIMARY KEY,
    issuer_id   text NOT NULL CONSTRAINT authorities_issuer_id_fkey REFERENCES issuers ON DELETE RESTRICT,
    parent_id   text CONSTRAINT authorities_parent_id_fkey REFERENCES authorities ON DELETE RESTRICT,
    name        text NOT NULL,
    state       text NOT NULL DEFAULT 'preparing' CHECK (state IN ('preparing', 'active', 'retiring', 'retired')),
    cert_der    bytea,
    sealed_key  bytea NOT NULL,
    not_before  timestamptz,
    not_after   timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT authorities_name_key UNIQUE (issuer_id, name),
    CONSTRAINT authorities_parent_check CHECK (parent_id <> id),
    CONSTRAINT authorities_cert_check CHECK ((state = 'preparing') = (cert_der IS NULL))
);

-- What each of our CAs was asked to sign. The row, with the serial and the to-be-signed bytes,
-- is committed before the signature exists.
CREATE TABLE IF NOT EXISTS issuances (
    authority_id  text NOT NULL CONSTRAINT issuances_authority_id_fkey REFERENCES authorities ON DELETE RESTRICT,
    serial_number text NOT NULL CHECK (serial_number ~ '^[1-9a-f][0-9a-f]{0,39}$'),
    purpose       text NOT NULL CHECK (purpose IN ('leaf', 'ca', 'ocsp_responder', 'server')),
    state         text NOT NULL DEFAULT 'intended' CHECK (state IN ('intended', 'issued', 'closed')),
    job_id        text,
    tbs_der       bytea NOT NULL,
    not_after     timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    settled_at    timestamptz,
    note          text,
    PRIMARY KEY (authority_id, serial_number),
    CONSTRAINT issuances_settled_check CHECK ((state = 'intended') = (settled_at IS NULL))
);
-- A job has at most one open intent: a resumed job finds it and goes on with it.
CREATE UNIQUE INDEX IF NOT EXISTS issuances_open_job_key ON issuances (job_id) WHERE state = 'intended';

-- Certificates the platform uses itself: OCSP responders and its own TLS server.
CREATE TABLE IF NOT EXISTS service_certificates (
    id            text PRIMARY KEY,
    authority_id  text NOT NULL CONSTRAINT service_certificates_authority_id_fkey REFERENCES authorities ON DELETE RESTRICT,
    purpose       text NOT NULL CHECK (purpose IN ('ocsp_responder', 'server')),
    serial_number text NOT NULL,
    cert_der      bytea NOT NULL,
    sealed_key    bytea NOT NULL,
    not_before    timestamptz NOT NULL,
    not_after     timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS service_certificates_purpose_idx ON service_certificates (authority_id, purpose, not_after DESC);

-- `changes` counts revocations, `covers` those that the present CRL holds; `reserved` is the
-- newest number handed to a builder, so that no number is ever used for two CRLs.
CREATE TABLE IF NOT EXISTS crls (
    authority_id  text PRIMARY KEY CONSTRAINT crls_authority_id_fkey REFERENCES authorities ON DELETE RESTRICT,
    changes       bigint NOT NULL DEFAULT 0,
    reserved      bigint NOT NULL DEFAULT 0,
    covers        bigint NOT NULL DEFAULT -1,
    number        bigint,
    der           bytea,
    this_update   timestamptz,
    next_update   timestamptz
);

CREATE TABLE IF NOT EXISTS agents (
    id                text PRIMARY KEY,
    name              text NOT NULL CONSTRAINT agents_name_key UNIQUE,
    hostname          text NOT NULL DEFAULT '',
    os                text NOT NULL DEFAULT '',
    architecture      text NOT NULL DEFAULT '',
    ip_address        text NOT NULL DEFAULT '',
    version           text NOT NULL DEFAULT '',
    credential_hash   bytea NOT NULL CONSTRAINT agents_credential_hash_key UNIQUE,
    registered_at     timestamptz NOT NULL DEFAULT now(),
    last_heartbeat_at timestamptz,
    session           text,
    retired_at        timestamptz,
    retired_reason    text
);

CREATE TABLE IF NOT EXISTS enrolment_tokens (
    id         text PRIMARY KEY,
    token_hash bytea NOT NULL CONSTRAINT enrolment_tokens_token_hash_key UNIQUE,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    agent_id   text CONSTRAINT enrolment_tokens_agent_id_fkey REFERENCES agents ON DELETE RESTRICT
);

CREATE TABLE IF NOT EXISTS deployment_targets (
    id            text PRIMARY KEY,
    name          text NOT NULL,
    type          text NOT NULL,
    agent_id      text NOT NULL CONSTRAINT deployment_targets_agent_id_fkey REFERENCES agents ON DELETE RESTRICT,
    config        jsonb NOT NULL DEFAULT '{}',
    sealed_config bytea,
    enabled       boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT deployment_targets_name_key UNIQUE (agent_id, name)
);

CREATE TABLE IF NOT EXISTS managed_certificates (
    id                     text PRIMARY KEY,
    name                   text NOT NULL,
    common_name            text NOT NULL,
    sans                   text[] NOT NULL DEFAULT '{}',
    environment            text NOT NULL DEFAULT '',
    owner_id               text NOT NULL CONSTRAINT managed_certificates_owner_id_fkey REFERENCES owners ON DELETE RESTRICT,
    team_id                text NOT NULL CONSTRAINT managed_certificates_team_id_fkey REFERENCES teams ON DELETE RESTRICT,
    issuer_id              text NOT NULL CONSTRAINT managed_certificates_issuer_id_fkey REFERENCES issuers ON DELETE RESTRICT,
    renewal_policy_id      text NOT NULL CONSTRAINT managed_certificates_renewal_policy_id_fkey REFERENCES renewal_policies ON DELETE RESTRICT,
    certificate_profile_id text NOT NULL CONSTRAINT managed_certificates_certificate_profile_id_fkey REFERENCES certificate_profiles ON DELETE RESTRICT,
    status                 text NOT NULL DEFAULT 'Pending' CHECK (status IN
        ('Pending', 'Active', 'Expiring', 'Expired', 'RenewalInProgress', 'Failed', 'Revoked', 'Archived')),
    expires_at             timestamptz,
    tags                   jsonb NOT NULL DEFAULT '{}',
    last_error             text,
    last_renewal_at        timestamptz,
    last_deployment_at     timestamptz,
    revoked_at             timestamptz,
    revocation_reason      text,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now()
);
-- An archived certificate leaves its name to its successor.
CREATE UNIQUE INDEX IF NOT EXISTS managed_certificates_name_key ON managed_certificates (name) WHERE status <> 'Archived';
CREATE INDEX IF NOT EXISTS managed_certificates_page_idx ON managed_certificates (created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS managed_certificates_status_idx ON managed_certificates (status, created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS managed_certificates_expires_idx ON managed_certificates (expires_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS managed_certificates_owner_idx ON managed_certificates (owner_id, created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS managed_certificates_team_idx ON managed_certificates (team_id, created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS managed_certificates_issuer_idx ON managed_certificates (issuer_id, created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS managed_certificates_profile_idx ON managed_certificates (certificate_profile_id, created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS managed_certificates_policy_idx ON managed_certificates (renewal_policy_id);

CREATE TABLE IF NOT EXISTS certificate_target_mappings (
    certificate_id text NOT NULL CONSTRAINT certificate_target_mappings_certificate_id_fkey REFERENCES managed_certificates ON DELETE CASCADE,
    target_id      text NOT NULL CONSTRAINT certificate_target_mappings_target_id_fkey REFERENCES deployment_targets ON DELETE RESTRICT,
    PRIMARY KEY (certificate_id, target_id)
);
CREATE INDEX IF NOT EXISTS certificate_target_mappings_target_idx ON certificate_target_mappings (target_id);

CREATE TABLE IF NOT EXISTS certificate_versions (
    id                 text PRIMARY KEY,
    certificate_id     text NOT NULL CONSTRAINT certificate_versions_certificate_id_fkey REFERENCES managed_certificates ON DELETE RESTRICT,
    agent_id           text CONSTRAINT certificate_versions_agent_id_fkey REFERENCES agents ON DELETE RESTRICT,
    issuer_id          text NOT NULL CONSTRAINT certificate_versions_issuer_id_fkey REFERENCES issuers ON DELETE RESTRICT,
    authority_id       text CONSTRAINT certificate_versions_authority_id_fkey REFERENCES authorities ON DELETE RESTRICT,
    serial_number      text NOT NULL CHECK (serial_number ~ '^[1-9a-f][0-9a-f]{0,39}$'),
    not_before         timestamptz NOT NULL,
    not_after          timestamptz NOT NULL,
    fingerprint_sha256 text NOT NULL CONSTRAINT certificate_versions_fingerprint_key UNIQUE,
    spki_sha256        text NOT NULL,
    sans               text[] NOT NULL,
    pem_chain          text NOT NULL,
    csr_pem            text,
    key_algorithm      text NOT NULL,
    key_size           integer NOT NULL,
    live               boolean NOT NULL DEFAULT true,
    revoked_at         timestamptz,
    created_at         timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT certificate_versions_serial_key UNIQUE (issuer_id, serial_number)
);
-- Each holder of a key has one live version of a certificate.
CREATE UNIQUE INDEX IF NOT EXISTS certificate_versions_live_key
    ON certificate_versions (certificate_id, coalesce(agent_id, '')) WHERE live;
CREATE INDEX IF NOT EXISTS certificate_versions_certificate_idx ON certificate_versions (certificate_id, created_at DESC, id COLLATE "C");
CREATE INDEX IF NOT EXISTS certificate_versions_due_idx ON certificate_versions (not_after) WHERE live;

CREATE TABLE IF NOT EXISTS certificate_revocations (
    id              text PRIMARY KEY,
    certificate_id  text CONSTRAINT certificate_revocations_certificate_id_fkey REFERENCES managed_certificates ON DELETE RESTRICT,
    issuer_id       text NOT NULL CONSTRAINT certificate_revocations_issuer_id_fkey REFERENCES issuers ON DELETE RESTRICT,
    authority_id    text CONSTRAINT certificate_revocations_authority_id_fkey REFERENCES authorities ON DELETE RESTRICT,
    serial_number   text NOT NULL,
    reason          text NOT NULL,
    revoked_by      text NOT NULL,
    revoked_at      timestamptz NOT NULL DEFAULT now(),
    not_after       timestamptz NOT NULL,
    issuer_notified boolean NOT NULL DEFAULT false,
    CONSTRAINT certificate_revocations_serial_key UNIQUE (issuer_id, serial_number)
);
CREATE INDEX IF NOT EXISTS certificate_revocations_authority_idx ON certificate_revocations (authority_id, serial_number);

CREATE TABLE IF NOT EXISTS jobs (
    id             text PRIMARY KEY,
    type           text NOT NULL CHECK (type IN ('Issuance', 'Renewal', 'Deployment', 'Validation', 'Revocation')),
    certificate_id text NOT NULL CONSTRAINT jobs_certificate_id_fkey REFERENCES managed_certificates ON DELETE CASCADE,
    target_id      text CONSTRAINT jobs_target_id_fkey REFERENCES deployment_targets ON DELETE SET NULL,
    agent_id       text CONSTRAINT jobs_agent_id_fkey REFERENCES agents ON DELETE SET NULL,
    version_id     text CONSTRAINT jobs_version_id_fkey REFERENCES certificate_versions ON DELETE CASCADE,
    status         text NOT NULL CHECK (status IN
        ('Pending', 'AwaitingApproval', 'AwaitingCSR', 'Running', 'Completed', 'Failed', 'Cancelled')),
    reason         text NOT NULL DEFAULT '',
    requested_by   text NOT NULL,
    csr_pem        text,
    attempts       integer NOT NULL DEFAULT 0,
    max_attempts   integer NOT NULL DEFAULT 3 CHECK (max_attempts BETWEEN 1 AND 11),
    last_error     text,
    leased_until   timestamptz,
    lease_session  text,
    scheduled_at   timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    completed_at   timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now()
);
-- One issuance at a time for each holder of a key.
CREATE UNIQUE INDEX IF NOT EXISTS jobs_open_issuance_key
    ON jobs (certificate_id, coalesce(agent_id, ''))
    WHERE type IN ('Issuance', 'Renewal')
      AND status IN ('Pending', 'AwaitingApproval', 'AwaitingCSR', 'Running');
CREATE UNIQUE INDEX IF NOT EXISTS jobs_open_deployment_key
    ON jobs (version_id, target_id)
    WHERE type = 'Deployment' AND status IN ('Pending', 'Running');
CREATE INDEX IF NOT EXISTS jobs_agent_idx ON jobs (agent_id, scheduled_at)
    WHERE status IN ('Pending', 'AwaitingCSR', 'Running');
CREATE INDEX IF NOT EXISTS jobs_due_idx ON jobs (scheduled_at)
    WHERE status IN ('Pending', 'AwaitingCSR', 'Running');
CREATE INDEX IF NOT EXISTS jobs_page_idx ON jobs (created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS jobs_status_idx ON jobs (status, created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS jobs_certificate_idx ON jobs (certificate_id, created_at);
CREATE INDEX IF NOT EXISTS jobs_completed_idx ON jobs (completed_at) WHERE completed_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS deployments (
    id                 text PRIMARY KEY,
    certificate_id     text NOT NULL CONSTRAINT deployments_certificate_id_fkey REFERENCES managed_certificates ON DELETE CASCADE,
    target_id          text CONSTRAINT deployments_target_id_fkey REFERENCES deployment_targets ON DELETE SET NULL,
    version_id         text NOT NULL CONSTRAINT deployments_version_id_fkey REFERENCES certificate_versions ON DELETE CASCADE,
    job_id             text NOT NULL,
    outcome            text NOT NULL CHECK (outcome IN ('deployed', 'unchanged', 'rolled_back', 'failed')),
    fingerprint_sha256 text,
    error              text,
    finished_at        timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS deployments_certificate_idx ON deployments (certificate_id, finished_at DESC);
CREATE INDEX IF NOT EXISTS deployments_target_idx ON deployments (target_id, finished_at DESC);

CREATE TABLE IF NOT EXISTS api_keys (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    key_hash   bytea NOT NULL CONSTRAINT api_keys_key_hash_key UNIQUE,
    roles      text[] NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

-- The transaction has its id before the number is drawn: the sealer relies on that order when it
-- decides that every number up to some point is committed or will never be.
CREATE SEQUENCE IF NOT EXISTS audit_sequence;
CREATE OR REPLACE FUNCTION next_audit_sequence() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_current_xact_id();
    RETURN nextval('audit_sequence');
END $$;

CREATE TABLE IF NOT EXISTS audit_events (
    sequence       bigint PRIMARY KEY DEFAULT next_audit_sequence(),
    id             text NOT NULL CONSTRAINT audit_events_id_key UNIQUE,
    actor          text NOT NULL,
    actor_type     text NOT NULL,
    action         text NOT NULL,
    resource_type  text NOT NULL,
    resource_id    text NOT NULL,
    details        jsonb NOT NULL DEFAULT '{}',
    event_category text NOT NULL CHECK (event_category IN ('cert_lifecycle', 'auth', 'config')),
    address        text,
    request_id     text,
    timestamp      timestamptz NOT NULL,
    content_hash   text NOT NULL
);
CREATE INDEX IF NOT EXISTS audit_events_timestamp_idx ON audit_events (timestamp);
CREATE INDEX IF NOT EXISTS audit_events_resource_idx ON audit_events (resource_type, resource_id);

CREATE TABLE IF NOT EXISTS audit_seals (
    number         bigint PRIMARY KEY,
    first_sequence bigint NOT NULL,
    last_sequence  bigint NOT NULL,
    row_count      bigint NOT NULL,
    previous       text NOT NULL,
    seal           text NOT NULL,
    sealed_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT audit_seals_range_check CHECK (last_sequence >= first_sequence)
);

CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'check_violation';
END $$;

DROP TRIGGER IF EXISTS audit_events_append_only ON audit_events;
CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
DROP TRIGGER IF EXISTS audit_events_no_truncate ON audit_events;
CREATE TRIGGER audit_events_no_truncate BEFORE TRUNCATE ON audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
DROP TRIGGER IF EXISTS audit_seals_append_only ON audit_seals;
CREATE TRIGGER audit_seals_append_only BEFORE UPDATE OR DELETE ON audit_seals
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
DROP TRIGGER IF EXISTS audit_seals_no_truncate ON audit_seals;
CREATE TRIGGER audit_seals_no_truncate BEFORE TRUNCATE ON audit_seals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
