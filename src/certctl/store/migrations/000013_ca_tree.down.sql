DROP INDEX IF EXISTS authorities_parent_id_idx;
ALTER TABLE authorities DROP COLUMN IF EXISTS excluded_names;
ALTER TABLE authorities DROP COLUMN IF EXISTS permitted_names;
ALTER TABLE authorities DROP COLUMN IF EXISTS path_length;
