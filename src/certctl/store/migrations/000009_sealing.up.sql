-- Which data key each sealed value names, so that a key in use cannot be removed and nothing can
-- be written under one that is gone. While a key is being replaced there are two, each also kept
-- under the other.

ALTER TABLE sealing_keys ADD COLUMN IF NOT EXISTS beside bytea;
ALTER TABLE sealing_keys ADD COLUMN IF NOT EXISTS replaces text;

ALTER TABLE issuers ADD COLUMN IF NOT EXISTS sealed_config_under text
    GENERATED ALWAYS AS (
         CASE WHEN substring(sealed_config FOR 4) = '\x056b6579'
                  THEN encode(substring(sealed_config FROM 5 FOR 8), 'hex')
              WHEN substring(sealed_config FOR 1) = '\x04' THEN 'data' END) STORED
    CONSTRAINT issuers_sealed_config_under_fkey REFERENCES sealing_keys;

ALTER TABLE deployment_targets ADD COLUMN IF NOT EXISTS sealed_config_under text
    GENERATED ALWAYS AS (
         CASE WHEN substring(sealed_config FOR 4) = '\x056b6579'
                  THEN encode(substring(sealed_config FROM 5 FOR 8), 'hex')
              WHEN substring(sealed_config FOR 1) = '\x04' THEN 'data' END) STORED
    CONSTRAINT deployment_targets_sealed_config_under_fkey REFERENCES sealing_keys;

ALTER TABLE authorities ADD COLUMN IF NOT EXISTS sealed_key_under text
    GENERATED ALWAYS AS (
         CASE WHEN substring(sealed_key FOR 4) = '\x056b6579'
                  THEN encode(substring(sealed_key FROM 5 FOR 8), 'hex')
              WHEN substring(sealed_key FOR 1) = '\x04' THEN 'data' END) STORED
    CONSTRAINT authorities_sealed_key_under_fkey REFERENCES sealing_keys;

ALTER TABLE service_certificates ADD COLUMN IF NOT EXISTS sealed_key_under text
    GENERATED ALWAYS AS (
         CASE WHEN substring(sealed_key FOR 4) = '\x056b6579'
                  THEN encode(substring(sealed_key FROM 5 FOR 8), 'hex')
              WHEN substring(sealed_key FOR 1) = '\x04' THEN 'data' END) STORED
    CONSTRAINT service_certificates_sealed_key_under_fkey REFERENCES sealing_keys;

ALTER TABLE jobs ADD COLUMN IF NOT EXISTS sealed_key_under text
    GENERATED ALWAYS AS (
         CASE WHEN substring(sealed_key FOR 4) = '\x056b6579'
                  THEN encode(substring(sealed_key FROM 5 FOR 8), 'hex')
              WHEN substring(sealed_key FOR 1) = '\x04' THEN 'data' END) STORED
    CONSTRAINT jobs_sealed_key_under_fkey REFERENCES sealing_keys;

ALTER TABLE certificate_versions ADD COLUMN IF NOT EXISTS sealed_key_under text
    GENERATED ALWAYS AS (
         CASE WHEN substring(sealed_key FOR 4) = '\x056b6579'
                  THEN encode(substring(sealed_key FROM 5 FOR 8), 'hex')
              WHEN substring(sealed_key FOR 1) = '\x04' THEN 'data' END) STORED
    CONSTRAINT certificate_versions_sealed_key_under_fkey REFERENCES sealing_keys;

ALTER TABLE audit_checkpoint_keys ADD COLUMN IF NOT EXISTS sealed_key_under text
    GENERATED ALWAYS AS (
         CASE WHEN substring(sealed_key FOR 4) = '\x056b6579'
                  THEN encode(substring(sealed_key FROM 5 FOR 8), 'hex')
              WHEN substring(sealed_key FOR 1) = '\x04' THEN 'data' END) STORED
    CONSTRAINT audit_checkpoint_keys_sealed_key_under_fkey REFERENCES sealing_keys;
