-- Lint codes that two people have let pass for one profile until a day, and the versions that did.
-- Every statement is guarded, so that the file can be run again on a half-migrated database.
CREATE TABLE IF NOT EXISTS lint_waivers (
    id            text PRIMARY KEY,
    profile_id    text NOT NULL CONSTRAINT lint_waivers_profile_id_fkey REFERENCES certificate_profiles ON DELETE RESTRICT,
    code          text NOT NULL,
    reason        text NOT NULL,
    ends_at       timestamptz NOT NULL,
    requested_by  text NOT NULL,
    state         text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'approved', 'rejected', 'withdrawn')),
    decided_by    text,
    decided_at    timestamptz,
    decision_note text,
    withdrawn_by  text,
    withdrawn_at  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT lint_waivers_year_check CHECK (ends_at <= created_at + interval '366 days'),
    CONSTRAINT lint_waivers_decision_check CHECK (state NOT IN ('approved', 'rejected') OR (decided_by IS NOT NULL AND decided_at IS NOT NULL)),
    CONSTRAINT lint_waivers_two_persons_check CHECK (state = 'rejected' OR decided_by <> requested_by)
);
CREATE UNIQUE INDEX IF NOT EXISTS lint_waivers_pending_key ON lint_waivers (profile_id, code) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS lint_waivers_page_idx ON lint_waivers (created_at, id COLLATE "C");
CREATE INDEX IF NOT EXISTS lint_waivers_in_force_idx ON lint_waivers (profile_id) WHERE state = 'approved';
ALTER TABLE certificate_versions ADD COLUMN IF NOT EXISTS lint_waived text[] NOT NULL DEFAULT '{}';
