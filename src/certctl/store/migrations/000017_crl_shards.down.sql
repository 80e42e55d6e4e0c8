-- Leaves that name a shard of a CRL are left without one: only OCSP tells of them afterwards.
DO $$ BEGIN
    IF EXISTS (SELECT FROM information_schema.columns WHERE table_schema = current_schema()
               AND table_name = 'crls' AND column_name = 'shard') THEN
        DELETE FROM crls WHERE shard > 0;
    END IF;
END $$;
ALTER TABLE crls DROP CONSTRAINT IF EXISTS crls_pkey;
ALTER TABLE crls ADD CONSTRAINT crls_pkey PRIMARY KEY (authority_id);
ALTER TABLE crls ALTER COLUMN der SET STORAGE EXTENDED;
ALTER TABLE crls DROP COLUMN IF EXISTS build_seconds;
ALTER TABLE crls DROP COLUMN IF EXISTS built_at;
ALTER TABLE crls DROP COLUMN IF EXISTS building_since;
ALTER TABLE crls DROP COLUMN IF EXISTS building;
ALTER TABLE crls DROP COLUMN IF EXISTS entries;
ALTER TABLE crls DROP COLUMN IF EXISTS urls;
ALTER TABLE crls DROP COLUMN IF EXISTS shard;
DROP INDEX IF EXISTS certificate_revocations_unwritten_idx;
DROP INDEX IF EXISTS certificate_revocations_shard_idx;
ALTER TABLE certificate_revocations DROP COLUMN IF EXISTS entry_der;
ALTER TABLE certificate_revocations DROP COLUMN IF EXISTS crl_shard;
ALTER TABLE issuances DROP COLUMN IF EXISTS crl_shard;
ALTER TABLE certificate_profiles DROP COLUMN IF EXISTS crl_shards;
