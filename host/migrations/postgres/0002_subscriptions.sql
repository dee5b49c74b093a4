-- Routes made at run time.
CREATE TABLE subscriptions (
    id      bytea PRIMARY KEY,    -- 16 bytes
    number  bigint NOT NULL,      -- counts up within the tenant
    tenant  text NOT NULL,
    made_by text NOT NULL,
    form    text NOT NULL,        -- JSON, without what is secret
    created bigint NOT NULL,      -- ms
    updated bigint NOT NULL       -- ms
);

-- What is secret, sealed: see vault.rs.
CREATE TABLE sealed (
    owner   bytea NOT NULL REFERENCES subscriptions (id),
    purpose text NOT NULL,
    name    text NOT NULL,
    version int NOT NULL,         -- 0 is the newest
    until   bigint,               -- ms
    key     text NOT NULL,        -- which one it is sealed with
    value   bytea NOT NULL,
    PRIMARY KEY (owner, purpose, name, version)
);

-- The last number given in each tenant.
CREATE TABLE numbers (
    tenant text PRIMARY KEY,
    last   bigint NOT NULL
);

-- What plugins note of a tenant.
CREATE TABLE notes (
    tenant text NOT NULL,
    plugin text NOT NULL,
    name   text NOT NULL,
    value  text NOT NULL,
    PRIMARY KEY (tenant, plugin, name)
);
