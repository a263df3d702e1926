-- Version 2: what replicas do one at a time, and webhooks. Times are the database's own: replicas' clocks differ.
CREATE TABLE leases (               -- work in the background: who does it
    name          text COLLATE "C" PRIMARY KEY,
    holder        text NOT NULL,    -- the replica, for its operators to read
    until         timestamptz NOT NULL, -- nobody else takes it before
    fence         bigint NOT NULL,  -- counts the holders: what a former one writes is not taken
    finished      timestamptz,      -- when it was done last
    note          text              -- how far it is
);
CREATE TABLE notices (              -- what webhooks are to be told
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order in which they are sent
    hook          text COLLATE "C" NOT NULL,
    body          text NOT NULL,
    made          timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts      integer NOT NULL DEFAULT 0, -- and the fence of who sends it
    due           timestamptz NOT NULL DEFAULT clock_timestamp() -- no replica sends it before
);
CREATE INDEX notices_by_hook ON notices (hook, id);
