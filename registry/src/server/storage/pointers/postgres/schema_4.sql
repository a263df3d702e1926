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

-- What goes is found by indexes that have nothing else in them, however much is loose for other reasons.
CREATE INDEX manifests_orphaned ON manifests (loose) WHERE loose IS NOT NULL AND orphan AND deleted IS NULL;
CREATE INDEX manifests_loose_of ON manifests (repository, loose) WHERE loose IS NOT NULL;

-- How many repositories of a namespace have some content, beside `holdings.holders`, in slots: a row of `holdings` says that there
-- are some, and whoever adds one to others changes its own slot alone. A base layer that everybody pushes has no row that everybody locks.
CREATE TABLE holders (
    namespace     bigint NOT NULL,
    digest        text COLLATE "C" NOT NULL,
    slot          smallint NOT NULL,
    holders       bigint NOT NULL,
    PRIMARY KEY (namespace, digest, slot)
) WITH (fillfactor = 50);

-- nobody is within the former function, whose numbers the next one adds to
LOCK TABLE blobs, manifests, holdings IN SHARE ROW EXCLUSIVE MODE;

CREATE OR REPLACE FUNCTION hold(of_repository bigint, content text, content_size bigint, more bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    above bigint;
    is_first boolean;
    own smallint := (pg_backend_pid() % 32)::smallint;
    -- beside those of `pointers/postgres/locks.rs`, as the fourth kind
    content_lock bigint := hashtextextended(content, 0) & 1152921504606846975 | 4::bigint << 60;
BEGIN
    PERFORM slipway.add_sum(1::smallint, of_repository, more * content_size, 0);
    -- who adds does so beside others; who takes away looks alone whether any is left
    IF more > 0 THEN
        PERFORM pg_advisory_xact_lock_shared(content_lock);
    ELSE
        PERFORM pg_advisory_xact_lock(content_lock);
    END IF;
    FOR above IN SELECT namespace FROM slipway.members WHERE repository = of_repository ORDER BY namespace LOOP
        IF more > 0 THEN
            INSERT INTO slipway.holdings VALUES (above, content, content_size, 0) ON CONFLICT (namespace, digest) DO NOTHING;
            is_first := FOUND;
        END IF;
        INSERT INTO slipway.holders AS h VALUES (above, content, own, more)
            ON CONFLICT (namespace, digest, slot) DO UPDATE SET holders = h.holders + more;
        IF more > 0 THEN
            IF is_first THEN
                PERFORM slipway.add_sum(2::smallint, above, content_size, 0);
            END IF;
        ELSIF (SELECT coalesce(sum(h.holders), 0) FROM slipway.holders h WHERE h.namespace = above AND h.digest = content)
            + (SELECT coalesce(sum(h.holders), 0) FROM slipway.holdings h WHERE h.namespace = above AND h.digest = content) <= 0 THEN
            DELETE FROM slipway.holders WHERE namespace = above AND digest = content;
            DELETE FROM slipway.holdings WHERE namespace = above AND digest = content;
            PERFORM slipway.add_sum(2::smallint, above, - content_size, 0);
        END IF;
    END LOOP;
END $$;
