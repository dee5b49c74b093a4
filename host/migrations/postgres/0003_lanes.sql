-- A route's deliveries are attempted by one node at a time: by that which has its lane.
CREATE TABLE lanes (
    route  int PRIMARY KEY,
    lease  bigint,                         -- of the node that has it; null: nobody has
    epoch  bigint NOT NULL,                -- how often it was taken
    -- With a rate limit: moments (ms) and how many attempts were made then, in turn.
    spent  bigint[] NOT NULL DEFAULT '{}',
    unsure bigint NOT NULL DEFAULT 0       -- and how many more a node may have made that is gone
);
CREATE INDEX lanes_by_lease ON lanes (lease) WHERE lease IS NOT NULL;

-- Every node follows what is known of endpoints.
CREATE SEQUENCE endpoint_changes;
ALTER TABLE endpoints
    ADD rest_until bigint,
    ADD rest_cause text,
    ADD written_by bigint,                 -- the lease of the node that did
    ADD change bigint NOT NULL DEFAULT nextval('endpoint_changes'),
    ADD changed timestamptz NOT NULL DEFAULT clock_timestamp();
CREATE INDEX endpoints_by_change ON endpoints (changed);

-- The last change of each subscription, those that are gone included. Numbered in the order
-- of the commits, by a row of `progress`.
CREATE TABLE subscription_changes (
    id     bytea PRIMARY KEY,
    number bigint NOT NULL
);
CREATE INDEX subscription_changes_by_number ON subscription_changes (number);
