-- What host/migrations/0001 to 0003 are for SQLite. Ids and moments (ms) are bigint and
-- grow with time: events, deliveries and attempts are partitioned by id, a day each.

-- The processes that share this database. A number is part of the ids its process makes.
CREATE TABLE nodes (
    number  int PRIMARY KEY,
    lease   bigint UNIQUE,         -- null: gone. Deliveries in its hands have it.
    name    text NOT NULL,
    renewed timestamptz NOT NULL,
    expires timestamptz NOT NULL
);
CREATE SEQUENCE leases;

-- Names that repeat: sources, routes, endpoint URLs.
CREATE TABLE labels (
    id   int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text text COLLATE "C" NOT NULL
);
-- An index row has less room than a text.
CREATE UNIQUE INDEX labels_by_text ON labels (md5(text));

-- One fact received.
CREATE TABLE events (
    id          bigint NOT NULL PRIMARY KEY,
    source      int NOT NULL,
    type        text COLLATE "C" NOT NULL,
    subject     text COLLATE "C",
    time        bigint NOT NULL,
    attributes  text NOT NULL,                -- JSON: [[name, value], …]
    data        bytea NOT NULL,
    data_pruned boolean NOT NULL DEFAULT false
) PARTITION BY RANGE (id);
CREATE INDEX events_by_type ON events (left(type, 200), id);
CREATE INDEX events_by_subject ON events (left(subject, 200), id) WHERE subject IS NOT NULL;
CREATE INDEX events_by_source ON events (source, id);

-- What two firings of one event have in common.
CREATE TABLE seen (
    key   bytea PRIMARY KEY,
    body  bytea,
    event bigint NOT NULL
);
CREATE INDEX seen_by_event ON seen (event);

-- This event, by this route, to this endpoint.
CREATE TABLE deliveries (
    id          bigint NOT NULL PRIMARY KEY,
    event       bigint NOT NULL,
    route       int NOT NULL,
    endpoint    int NOT NULL,
    status      smallint NOT NULL,  -- 0 pending, 1 delivered, 2 filtered, 3 dead
    lease       bigint,             -- in the hands of that node
    due         bigint NOT NULL,    -- when pending
    attempts    int NOT NULL,
    status_code int,
    error       text COLLATE "C",
    key         bigint,
    place       bigint              -- in the order of its key: ids of several nodes say little
) PARTITION BY RANGE (id);
CREATE SEQUENCE places;
CREATE INDEX deliveries_of_event ON deliveries (event);
CREATE INDEX deliveries_by_route ON deliveries (route, id);
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint, id);
-- Small: what is leased at birth and delivered enters only the second of them.
CREATE INDEX deliveries_waiting ON deliveries (route, due, id) WHERE status = 0 AND lease IS NULL;
CREATE INDEX deliveries_leased ON deliveries (lease) WHERE lease IS NOT NULL;
CREATE INDEX deliveries_in_order ON deliveries (route, key, place)
    WHERE status = 0 AND key IS NOT NULL;
CREATE INDEX deliveries_pending ON deliveries (id) WHERE status = 0;
CREATE INDEX deliveries_filtered ON deliveries (id) WHERE status = 2;
CREATE INDEX deliveries_dead ON deliveries (id) WHERE status = 3;
CREATE INDEX deliveries_failed ON deliveries (left(error, 200), id) WHERE error IS NOT NULL;

CREATE TABLE attempts (
    delivery    bigint NOT NULL,
    number      int NOT NULL,
    started     bigint NOT NULL,
    duration_us bigint NOT NULL,
    outcome     text NOT NULL,
    status_code int,
    error_code  text,
    error       text,
    method      text,
    url         text,
    headers     text,               -- name: value lines, secrets masked
    body        bytea,              -- where it was not the event's data unchanged
    excerpt     bytea,
    snapshot    bigint NOT NULL,
    plugins     text NOT NULL,
    PRIMARY KEY (delivery, number)
) PARTITION BY RANGE (delivery);

-- What still waits when its day is dropped; and, should a day not be there in time, that.
CREATE TABLE events_kept PARTITION OF events DEFAULT;
CREATE TABLE deliveries_kept PARTITION OF deliveries DEFAULT;
CREATE TABLE attempts_kept PARTITION OF attempts DEFAULT;

-- What is known of an endpoint beyond the life of a process.
CREATE TABLE endpoints (
    route          int NOT NULL,
    url            int NOT NULL,
    failing_since  bigint,
    disabled_since bigint,
    reason         text,
    PRIMARY KEY (route, url)
);

-- Up to where payloads have been taken.
CREATE TABLE progress (
    name text PRIMARY KEY,
    id   bigint NOT NULL
);
