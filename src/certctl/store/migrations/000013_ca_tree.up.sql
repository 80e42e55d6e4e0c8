-- CAs as a tree that operators shape. Every statement is guarded, so that the file can be run again
-- on a half-migrated database.

-- Those made so far are a first start's: a root, and the issuing CA under it.
ALTER TABLE authorities ADD COLUMN IF NOT EXISTS path_length integer
    CONSTRAINT authorities_path_length_check CHECK (path_length BETWEEN 0 AND 8);
UPDATE authorities SET path_length = CASE WHEN parent_id IS NULL THEN 1 ELSE 0 END
WHERE path_length IS NULL;
ALTER TABLE authorities ALTER COLUMN path_length SET NOT NULL;
ALTER TABLE authorities ADD COLUMN IF NOT EXISTS permitted_names text[] NOT NULL DEFAULT '{}';
ALTER TABLE authorities ADD COLUMN IF NOT EXISTS excluded_names text[] NOT NULL DEFAULT '{}';
CREATE INDEX IF NOT EXISTS authorities_parent_id_idx ON authorities (parent_id);
