-- What the clock showed, to a second, when something was last written: the next process
-- begins no earlier. Twice, because a disk can change it.
CREATE TABLE clock (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    shown INTEGER NOT NULL,  -- ms
    again INTEGER NOT NULL
) STRICT;

INSERT INTO clock VALUES (1, 0, 0);
