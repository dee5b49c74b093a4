-- What a row was when it was written: a disk that has changed it is found out before
-- anything of it is sent. None in rows that are older.
ALTER TABLE events ADD COLUMN sum INTEGER;
ALTER TABLE deliveries ADD COLUMN sum INTEGER;
