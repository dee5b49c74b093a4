-- Routes made at run time.
CREATE TABLE subscriptions (
    id      BLOB PRIMARY KEY,     -- 16 bytes
    number  INTEGER NOT NULL,     -- counts up within the tenant
    tenant  TEXT NOT NULL,
    made_by TEXT NOT NULL,
    form    TEXT NOT NULL,        -- JSON, without what is secret
    created INTEGER NOT NULL,     -- ms
    updated INTEGER NOT NULL      -- ms
) STRICT, WITHOUT ROWID;

-- What is secret, sealed: see vault.rs.
CREATE TABLE sealed (
    owner   BLOB NOT NULL REFERENCES subscriptions (id),
    purpose TEXT NOT NULL,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,     -- 0 is the newest
    until   INTEGER,              -- ms
    key     TEXT NOT NULL,        -- which one it is sealed with
    value   BLOB NOT NULL,
    PRIMARY KEY (owner, purpose, name, version)
) STRICT, WITHOUT ROWID;

-- The last number given in each tenant.
CREATE TABLE numbers (
    tenant TEXT PRIMARY KEY,
    last   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
