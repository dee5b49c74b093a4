-- The log, made searchable without an index per column: see queue/columns.rs.

-- Every thousand rows, in the order they were written, are a block.
CREATE TABLE blocks (
    number INTEGER PRIMARY KEY,
    of     INTEGER NOT NULL,  -- 0 deliveries, 1 events
    first  INTEGER NOT NULL,  -- ids
    last   INTEGER NOT NULL
) STRICT;
CREATE INDEX blocks_by_last ON blocks (of, last);

-- One column of a block: ids, or two bytes of a hash for each row.
CREATE TABLE columns (
    id   INTEGER PRIMARY KEY,  -- kind << 40 | block
    data BLOB NOT NULL
) STRICT;

-- Event types that occurred, so that the start of one finds them.
CREATE TABLE types (
    text TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Small: what is leased at birth and delivered enters none of them.
CREATE INDEX deliveries_dead ON deliveries (id) WHERE status = 3;
CREATE INDEX deliveries_filtered ON deliveries (id) WHERE status = 2;
CREATE INDEX deliveries_stored ON deliveries (id) WHERE status = 0 AND leased = 0;
CREATE INDEX deliveries_failed ON deliveries (error, id) WHERE error IS NOT NULL;

-- 1 when the retention of payloads has taken the data.
ALTER TABLE events ADD COLUMN data_pruned INTEGER NOT NULL DEFAULT 0;

-- Up to where payloads have been taken.
CREATE TABLE progress (
    name TEXT PRIMARY KEY,
    id   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
