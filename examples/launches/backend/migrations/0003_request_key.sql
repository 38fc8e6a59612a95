-- Expand only: nullable and unused by the release before this one, which keeps inserting without it while both run.
-- A form carries a random key, so that a repeated request (double click, retry) gets its own ticket back instead of "already entered".
ALTER TABLE entries ADD COLUMN request_key VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL;
