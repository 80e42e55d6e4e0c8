-- Rows under a later key than the first cannot be read by the certctl that this goes back to.

ALTER TABLE issuers DROP COLUMN IF EXISTS sealed_config_under;
ALTER TABLE deployment_targets DROP COLUMN IF EXISTS sealed_config_under;
ALTER TABLE authorities DROP COLUMN IF EXISTS sealed_key_under;
ALTER TABLE service_certificates DROP COLUMN IF EXISTS sealed_key_under;
ALTER TABLE jobs DROP COLUMN IF EXISTS sealed_key_under;
ALTER TABLE certificate_versions DROP COLUMN IF EXISTS sealed_key_under;
ALTER TABLE IF EXISTS audit_checkpoint_keys DROP COLUMN IF EXISTS sealed_key_under;
ALTER TABLE sealing_keys DROP COLUMN IF EXISTS replaces;
ALTER TABLE sealing_keys DROP COLUMN IF EXISTS beside;
