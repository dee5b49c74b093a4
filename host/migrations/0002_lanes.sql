-- Deliveries of a route that share a key follow each other: one of them is due or
-- in hand, the others are parked (due at the end of time) until it has ended.
ALTER TABLE deliveries ADD COLUMN key INTEGER;

CREATE INDEX deliveries_in_order ON deliveries (route, key, id) WHERE status = 0 AND key IS NOT NULL;

-- What is known of an endpoint beyond the life of the process.
CREATE TABLE endpoints (
    route          INTEGER NOT NULL REFERENCES labels (id),
    url            INTEGER NOT NULL REFERENCES labels (id),
    failing_since  INTEGER,  -- ms
    disabled_since INTEGER,  -- ms
    reason         TEXT,
    PRIMARY KEY (route, url)
) STRICT, WITHOUT ROWID;
