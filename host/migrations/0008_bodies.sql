-- Where in the body the event's data goes, which is kept already; none where the body is whole.
ALTER TABLE attempts ADD COLUMN data_at INTEGER;
