-- Names that repeat: sources, routes, endpoint URLs.
CREATE TABLE labels (
    id   INTEGER PRIMARY KEY,
    text TEXT NOT NULL UNIQUE
) STRICT;

-- One fact received. Never updated.
CREATE TABLE events (
    id         INTEGER PRIMARY KEY,
    source     INTEGER NOT NULL REFERENCES labels (id),
    type       TEXT NOT NULL,
    subject    TEXT,
    time       INTEGER NOT NULL,  -- ms
    attributes TEXT NOT NULL,     -- JSON: [[name, value], …]
    data       BLOB NOT NULL
) STRICT;

-- What two firings of one event have in common.
CREATE TABLE seen (
    key   BLOB PRIMARY KEY,
    body  BLOB,
    event INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- This event, by this route, to this endpoint.
CREATE TABLE deliveries (
    id          INTEGER PRIMARY KEY,
    event       INTEGER NOT NULL REFERENCES events (id),
    route       INTEGER NOT NULL REFERENCES labels (id),
    endpoint    INTEGER NOT NULL REFERENCES labels (id),
    status      INTEGER NOT NULL,  -- 0 pending, 1 delivered, 2 filtered, 3 dead
    leased      INTEGER NOT NULL,  -- 1: in the hands of the process
    due         INTEGER NOT NULL,  -- ms; when pending
    attempts    INTEGER NOT NULL,
    status_code INTEGER,
    error       TEXT
) STRICT;

CREATE INDEX deliveries_of_event ON deliveries (event);

-- Small: what is leased at birth and delivered never enters it.
CREATE INDEX deliveries_waiting ON deliveries (route, due, id) WHERE status = 0 AND leased = 0;
CREATE INDEX deliveries_leased ON deliveries (id) WHERE leased = 1;

CREATE TABLE attempts (
    delivery    INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    started     INTEGER NOT NULL,  -- ms
    duration_us INTEGER NOT NULL,
    outcome     TEXT NOT NULL,
    status_code INTEGER,
    error_code  TEXT,
    error       TEXT,
    method      TEXT,
    url         TEXT,
    headers     TEXT,              -- name: value lines, secrets masked
    body        BLOB,              -- where it was not the event's data unchanged
    excerpt     BLOB,
    snapshot    INTEGER NOT NULL,
    plugins     TEXT NOT NULL,
    PRIMARY KEY (delivery, number)
) STRICT, WITHOUT ROWID;
