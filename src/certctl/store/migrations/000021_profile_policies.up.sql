-- Certificate policies of leaves, and must-staple as a critical extension. Every statement is guarded,
-- so that the file can be run again on a half-migrated database.
ALTER TABLE certificate_profiles ADD COLUMN IF NOT EXISTS must_staple_critical boolean NOT NULL
    DEFAULT false;
ALTER TABLE certificate_profiles ADD COLUMN IF NOT EXISTS certificate_policies text[] NOT NULL
    DEFAULT '{}';
ALTER TABLE certificate_profiles ADD COLUMN IF NOT EXISTS cps_uri text NOT NULL DEFAULT '';
