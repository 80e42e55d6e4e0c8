ALTER TABLE certificate_versions DROP COLUMN IF EXISTS no_revocation;
