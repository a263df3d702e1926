-- Version 4: devices that wait to be let in, and the key by which replicas call what they count for limits.
CREATE TABLE devices (              -- for minutes
    secret        text COLLATE "C" PRIMARY KEY, -- the digest of what the device asks with
    code          text COLLATE "C" NOT NULL UNIQUE, -- what people type
    client        text NOT NULL,    -- what it calls itself
    address       text,             -- where it asked from
    until         timestamptz NOT NULL,
    pause         bigint NOT NULL,  -- seconds between two of its questions
    asked         timestamptz,      -- when it asked last
    allowed       boolean,          -- what was decided
    who           text,             -- as whom it may act
    stamp         text              -- what that user's tokens stood on then
);
CREATE INDEX devices_by_until ON devices (until);
CREATE TABLE guesses (              -- codes that users typed and that were wrong
    who           text COLLATE "C" PRIMARY KEY,
    since         timestamptz NOT NULL,
    count         bigint NOT NULL
);
CREATE TABLE limit_key (key uuid NOT NULL); -- names of what is counted are told by all replicas in hashes under it
INSERT INTO limit_key VALUES (gen_random_uuid());
