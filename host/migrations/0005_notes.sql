-- What a platform's plugin notes of a tenant as a whole.
CREATE TABLE notes (
    tenant TEXT NOT NULL,
    plugin TEXT NOT NULL,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (tenant, plugin, name)
) STRICT, WITHOUT ROWID;
