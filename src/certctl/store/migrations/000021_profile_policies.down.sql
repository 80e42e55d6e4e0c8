ALTER TABLE certificate_profiles DROP COLUMN IF EXISTS cps_uri;
ALTER TABLE certificate_profiles DROP COLUMN IF EXISTS certificate_policies;
ALTER TABLE certificate_profiles DROP COLUMN IF EXISTS must_staple_critical;
