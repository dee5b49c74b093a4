-- What each node says of itself, for people: plugpost nodes.
ALTER TABLE nodes ADD COLUMN version text;
ALTER TABLE nodes ADD COLUMN snapshot text;             -- a digest of the folder it serves
ALTER TABLE nodes ADD COLUMN snapshot_since timestamptz;

-- A store that is being moved in: while there is a row, no node joins.
CREATE TABLE transfers (
    begun timestamptz NOT NULL
);
