ALTER TABLE enrolment_tokens DROP COLUMN IF EXISTS revoked_at;
ALTER TABLE enrolment_tokens DROP COLUMN IF EXISTS for_agent_id;
ALTER TABLE enrolment_tokens DROP COLUMN IF EXISTS agent_group_id;
ALTER TABLE agents DROP COLUMN IF EXISTS credential_revoked_at;
ALTER TABLE agents DROP COLUMN IF EXISTS credential_made_at;
ALTER TABLE agents DROP COLUMN IF EXISTS next_credential_hash;
DROP TABLE IF EXISTS bootstrap_uses;
ALTER TABLE api_keys ADD COLUMN IF NOT EXISTS roles text[] NOT NULL DEFAULT '{}';
DO $$ BEGIN
    IF to_regclass('actor_roles') IS NOT NULL THEN
        UPDATE api_keys k SET roles = coalesce((SELECT array_agg(DISTINCT a.role_id ORDER BY a.role_id)
            FROM actor_roles a WHERE a.actor_type = 'APIKey' AND a.actor_id = k.name
              AND a.issuer_id IS NULL AND a.profile_id IS NULL
              AND (a.expires_at IS NULL OR a.expires_at > now())), '{}');
    END IF;
END $$;
ALTER TABLE api_keys ALTER COLUMN roles DROP DEFAULT;
DROP INDEX IF EXISTS api_keys_name_idx;
ALTER TABLE api_keys DROP COLUMN IF EXISTS last_used_at;
DROP TABLE IF EXISTS actor_roles, role_permissions, roles;
