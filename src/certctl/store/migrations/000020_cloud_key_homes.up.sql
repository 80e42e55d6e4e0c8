-- CAs whose keys live in a cloud's key service. Guarded, so that the file can be run again on a
-- half-migrated database.
ALTER TABLE authorities DROP CONSTRAINT IF EXISTS authorities_key_home_check;
ALTER TABLE authorities ADD CONSTRAINT authorities_key_home_check CHECK (key_home IN
    ('sealed', 'pkcs11', 'aws-kms', 'gcp-kms', 'azure-key-vault', 'none'));
