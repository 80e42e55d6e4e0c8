-- Nothing is passed over any more; who asked and who approved stays in the audit trail.
ALTER TABLE certificate_versions DROP COLUMN IF EXISTS lint_waived;
DROP TABLE IF EXISTS lint_waivers;
