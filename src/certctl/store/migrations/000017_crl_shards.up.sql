-- CRLs in parts: a leaf's part is fixed when it is issued. Every statement is guarded, so that the
-- file can be run again on a half-migrated database.
ALTER TABLE certificate_profiles ADD COLUMN IF NOT EXISTS crl_shards integer NOT NULL DEFAULT 0
    CONSTRAINT certificate_profiles_crl_shards_check CHECK (crl_shards BETWEEN 0 AND 1024);
ALTER TABLE issuances ADD COLUMN IF NOT EXISTS crl_shard integer NOT NULL DEFAULT 0;

-- A revocation as it stands in a CRL, DER. Null is filled in when a CRL is next built.
ALTER TABLE certificate_revocations ADD COLUMN IF NOT EXISTS crl_shard integer NOT NULL DEFAULT 0;
ALTER TABLE certificate_revocations ADD COLUMN IF NOT EXISTS entry_der bytea;
CREATE INDEX IF NOT EXISTS certificate_revocations_shard_idx
    ON certificate_revocations (authority_id, crl_shard) INCLUDE (not_after, entry_der)
    WHERE crl_shard > 0;
CREATE INDEX IF NOT EXISTS certificate_revocations_unwritten_idx
    ON certificate_revocations (authority_id) WHERE entry_der IS NULL;

-- Shard 0 is the complete list. `urls` are the addresses that stand in certificates; `building` is
-- how many changes the newest build covers that was begun.
ALTER TABLE crls ADD COLUMN IF NOT EXISTS shard integer NOT NULL DEFAULT 0;
ALTER TABLE crls ADD COLUMN IF NOT EXISTS urls text[] NOT NULL DEFAULT '{}';
ALTER TABLE crls ADD COLUMN IF NOT EXISTS entries integer NOT NULL DEFAULT 0;
ALTER TABLE crls ADD COLUMN IF NOT EXISTS building bigint NOT NULL DEFAULT -1;
ALTER TABLE crls ADD COLUMN IF NOT EXISTS building_since timestamptz;
ALTER TABLE crls ADD COLUMN IF NOT EXISTS built_at timestamptz;
ALTER TABLE crls ADD COLUMN IF NOT EXISTS build_seconds double precision NOT NULL DEFAULT 0;
ALTER TABLE crls ALTER COLUMN der SET STORAGE EXTERNAL;
ALTER TABLE crls DROP CONSTRAINT IF EXISTS crls_pkey;
ALTER TABLE crls ADD CONSTRAINT crls_pkey PRIMARY KEY (authority_id, shard);
