-- Roles, who has them, and the life of keys and credentials. Every statement is guarded, so that
-- the file can be run again on a half-migrated database.

-- What the built-in roles permit stands in the code, so that a newer release can widen them.
CREATE TABLE IF NOT EXISTS roles (
    id          text PRIMARY KEY,
    name        text NOT NULL CONSTRAINT roles_name_key UNIQUE,
    description text NOT NULL DEFAULT '',
    built_in    boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO roles (id, name, description, built_in) VALUES
    ('r-admin', 'Administrator', 'Everything', true),
    ('r-operator', 'Operator', 'The daily work on certificates, targets and agents', true),
    ('r-viewer', 'Viewer', 'Reads the inventory, its jobs and the audit trail', true),
    ('r-agent', 'Agent', 'What the agent program needs', true),
    ('r-mcp', 'MCP', 'What an assistant needs: no deletion, no change of rules', true),
    ('r-cli', 'CLI', 'The daily work from scripts, and their keys', true),
    ('r-auditor', 'Auditor', 'Reads and exports the audit trail', true)
ON CONFLICT DO NOTHING;

-- A row without an issuer and a profile is meant for everything.
CREATE TABLE IF NOT EXISTS role_permissions (
    role_id    text NOT NULL CONSTRAINT role_permissions_role_id_fkey REFERENCES roles ON DELETE CASCADE,
    permission text NOT NULL,
    issuer_id  text CONSTRAINT role_permissions_issuer_id_fkey REFERENCES issuers ON DELETE CASCADE,
    profile_id text CONSTRAINT role_permissions_profile_id_fkey REFERENCES certificate_profiles ON DELETE CASCADE,
    CONSTRAINT role_permissions_scope_check CHECK (issuer_id IS NULL OR profile_id IS NULL),
    CONSTRAINT role_permissions_key UNIQUE NULLS NOT DISTINCT (role_id, permission, issuer_id, profile_id)
);
CREATE INDEX IF NOT EXISTS role_permissions_issuer_id_idx ON role_permissions (issuer_id);
CREATE INDEX IF NOT EXISTS role_permissions_profile_id_idx ON role_permissions (profile_id);

CREATE TABLE IF NOT EXISTS actor_roles (
    actor_type text NOT NULL CONSTRAINT actor_roles_actor_type_check CHECK (actor_type IN ('User', 'APIKey')),
    actor_id   text NOT NULL,
    role_id    text NOT NULL CONSTRAINT actor_roles_role_id_fkey REFERENCES roles ON DELETE RESTRICT,
    issuer_id  text CONSTRAINT actor_roles_issuer_id_fkey REFERENCES issuers ON DELETE CASCADE,
    profile_id text CONSTRAINT actor_roles_profile_id_fkey REFERENCES certificate_profiles ON DELETE CASCADE,
    expires_at timestamptz,
    granted_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT actor_roles_scope_check CHECK (issuer_id IS NULL OR profile_id IS NULL),
    CONSTRAINT actor_roles_key UNIQUE NULLS NOT DISTINCT (actor_type, actor_id, role_id, issuer_id, profile_id)
);
CREATE INDEX IF NOT EXISTS actor_roles_role_id_idx ON actor_roles (role_id);
CREATE INDEX IF NOT EXISTS actor_roles_issuer_id_idx ON actor_roles (issuer_id);
CREATE INDEX IF NOT EXISTS actor_roles_profile_id_idx ON actor_roles (profile_id);

-- A key's name is the actor; two live keys of one name are a rotation.
ALTER TABLE api_keys ADD COLUMN IF NOT EXISTS last_used_at timestamptz;
CREATE INDEX IF NOT EXISTS api_keys_name_idx ON api_keys (name);
DO $$ BEGIN
    IF EXISTS (SELECT FROM information_schema.columns
               WHERE table_schema = current_schema AND table_name = 'api_keys' AND column_name = 'roles') THEN
        INSERT INTO actor_roles (actor_type, actor_id, role_id, granted_by)
            SELECT DISTINCT 'APIKey', k.name, r.id, 'migration'
            FROM api_keys k JOIN roles r ON r.id = ANY (k.roles) WHERE k.revoked_at IS NULL
            ON CONFLICT DO NOTHING;
        ALTER TABLE api_keys DROP COLUMN roles;
    END IF;
END $$;

-- A bootstrap token makes an administrator once, even if that one is gone later.
CREATE TABLE IF NOT EXISTS bootstrap_uses (
    token_hash bytea PRIMARY KEY,
    actor_id   text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The next credential counts from its first use on, and the one before it no more.
ALTER TABLE agents ADD COLUMN IF NOT EXISTS next_credential_hash bytea;
ALTER TABLE agents ADD COLUMN IF NOT EXISTS credential_made_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE agents ADD COLUMN IF NOT EXISTS credential_revoked_at timestamptz;
CREATE UNIQUE INDEX IF NOT EXISTS agents_next_credential_hash_key ON agents (next_credential_hash);

-- A token may put its agent into a group, or be for an agent that has lost its credential.
ALTER TABLE enrolment_tokens ADD COLUMN IF NOT EXISTS agent_group_id text
    CONSTRAINT enrolment_tokens_agent_group_id_fkey REFERENCES agent_groups ON DELETE CASCADE;
ALTER TABLE enrolment_tokens ADD COLUMN IF NOT EXISTS for_agent_id text
    CONSTRAINT enrolment_tokens_for_agent_id_fkey REFERENCES agents ON DELETE RESTRICT;
ALTER TABLE enrolment_tokens ADD COLUMN IF NOT EXISTS revoked_at timestamptz;
