-- What is not delivered, in one index where there were four: whatever is written of a
-- delivery has its price for each. What is leased at birth and delivered leaves it at once.
CREATE INDEX deliveries_undelivered ON deliveries (status, leased, id) WHERE status <> 1;
DROP INDEX deliveries_leased;
DROP INDEX deliveries_dead;
DROP INDEX deliveries_filtered;
DROP INDEX deliveries_stored;
