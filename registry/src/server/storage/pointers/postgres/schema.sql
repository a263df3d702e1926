-- Version 1. Digests are text in their written form; times are seconds since 1970; names sort by byte. Rows of `repositories`
-- never go, therefore nothing refers to them by a foreign key: each push would lock its repository's row.
CREATE TABLE repositories (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text COLLATE "C" NOT NULL UNIQUE
);
CREATE TABLE blobs (               -- which repository has which blob: the one source of truth for membership
    repository    bigint NOT NULL,
    digest        text COLLATE "C" NOT NULL,
    size          bigint NOT NULL CHECK (size >= 0), -- bytes
    loose         bigint,           -- since when no manifest holds it
    deleted       bigint,           -- since when it lies in the trash
    counted       boolean NOT NULL, -- whether it counts for quotas; never what lies in the trash
    PRIMARY KEY (repository, digest)
);
CREATE INDEX blobs_by_digest ON blobs (digest);
CREATE INDEX blobs_loose ON blobs (loose) WHERE loose IS NOT NULL;
CREATE INDEX blobs_deleted ON blobs (deleted) WHERE deleted IS NOT NULL;
CREATE TABLE manifests (
    repository    bigint NOT NULL,
    digest        text COLLATE "C" NOT NULL,
    media_type    text NOT NULL,    -- as first pushed
    size          bigint NOT NULL CHECK (size >= 0), -- bytes
    subject       text COLLATE "C", -- digest
    artifact_type text COLLATE "C", -- what a referrers entry shows
    annotations   text,             -- JSON object, only where there is a subject
    pushed        bigint NOT NULL,
    loose         bigint,           -- since when neither a tag, nor an index, nor its subject holds it
    orphan        boolean NOT NULL DEFAULT false, -- what held it was taken away
    deleted       bigint,           -- since when it lies in the trash
    PRIMARY KEY (repository, digest)
);
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_loose ON manifests (loose) WHERE loose IS NOT NULL;
CREATE INDEX manifests_deleted ON manifests (deleted) WHERE deleted IS NOT NULL;
CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest) WHERE subject IS NOT NULL;
CREATE TABLE edges (                -- what a manifest needs in its repository
    repository    bigint NOT NULL,
    manifest      text COLLATE "C" NOT NULL,
    target        text COLLATE "C" NOT NULL, -- digest
    kind          smallint NOT NULL, -- 1: a blob; 2: a manifest, or a blob in its place; 3: the subject
    PRIMARY KEY (repository, manifest, target, kind)
);
CREATE INDEX edges_by_target ON edges (repository, target, kind);
CREATE TABLE tags (
    repository    bigint NOT NULL,
    name          text COLLATE "C" NOT NULL,
    digest        text COLLATE "C" NOT NULL, -- of a manifest of the same repository
    updated       bigint NOT NULL,
    pulled        bigint,           -- the last time that is known
    pulls         bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (repository, name)
);
CREATE INDEX tags_by_digest ON tags (repository, digest);
CREATE TABLE tag_history (          -- every move of a tag
    number        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repository    bigint NOT NULL,
    tag           text COLLATE "C" NOT NULL,
    former        text COLLATE "C", -- digest; none where the tag was new
    digest        text COLLATE "C", -- none where the tag was deleted
    at            bigint NOT NULL,
    who           text,             -- the user
    origin        text              -- the client's address, or the command
);
CREATE INDEX tag_history_by_tag ON tag_history (repository, tag, number);
CREATE INDEX tag_history_by_number ON tag_history (repository, number);
CREATE TABLE condemned (            -- content that nothing points at and that is being removed
    digest        text COLLATE "C" PRIMARY KEY,
    since         bigint NOT NULL
);
CREATE TABLE uploads (
    id            text COLLATE "C" PRIMARY KEY,
    repository    text COLLATE "C" NOT NULL, -- by name: a repository begins with its first finished push
    algorithm     text NOT NULL,
    started       bigint NOT NULL,
    touched       bigint NOT NULL,
    length        bigint NOT NULL CHECK (length >= 0), -- bytes that were acknowledged
    hash          bytea,            -- the hash state over these bytes
    place         bytea NOT NULL    -- what content needs to go on
);
CREATE INDEX uploads_by_repository ON uploads (repository, touched);
CREATE INDEX uploads_by_age ON uploads (touched);
CREATE TABLE signing_keys (         -- what tokens are signed with
    id            text PRIMARY KEY,
    seed          bytea NOT NULL,   -- the secret of Ed25519
    created       bigint NOT NULL
);

-- How much there is for quotas (`pointers/quota.rs`): triggers keep it, so that no statement can forget it.
CREATE TABLE namespaces (           -- what lies below a name
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text COLLATE "C" NOT NULL UNIQUE -- empty: everything
);
INSERT INTO namespaces (name) VALUES ('');
CREATE TABLE members (              -- which namespaces a repository lies in
    repository    bigint NOT NULL,
    namespace     bigint NOT NULL,
    PRIMARY KEY (repository, namespace)
);
CREATE TABLE holdings (             -- what a namespace has
    namespace     bigint NOT NULL,
    digest        text COLLATE "C" NOT NULL,
    size          bigint NOT NULL,  -- bytes
    holders       bigint NOT NULL,  -- its repositories that have it
    PRIMARY KEY (namespace, digest)
);
CREATE TABLE sums (                 -- of a repository or a namespace, in slots: a connection adds to one, a reader sums them up
    kind          smallint NOT NULL, -- 1: a repository; 2: a namespace
    scope         bigint NOT NULL,
    slot          smallint NOT NULL,
    bytes         bigint NOT NULL,
    tags          bigint NOT NULL,
    PRIMARY KEY (kind, scope, slot)
) WITH (fillfactor = 50);

CREATE FUNCTION add_sum(of_kind smallint, of_scope bigint, more_bytes bigint, more_tags bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO slipway.sums AS s VALUES (of_kind, of_scope, (pg_backend_pid() % 32)::smallint, more_bytes, more_tags)
    ON CONFLICT (kind, scope, slot) DO UPDATE SET bytes = s.bytes + excluded.bytes, tags = s.tags + excluded.tags
$$;

-- A repository begins (`more` is 1) or ceases (-1) to have some content, as a blob or a manifest or both.
CREATE FUNCTION hold(of_repository bigint, content text, content_size bigint, more bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    above bigint;
    left_over bigint;
BEGIN
    PERFORM slipway.add_sum(1::smallint, of_repository, more * content_size, 0);
    FOR above IN SELECT namespace FROM slipway.members WHERE repository = of_repository ORDER BY namespace LOOP
        INSERT INTO slipway.holdings AS h VALUES (above, content, content_size, more)
            ON CONFLICT (namespace, digest) DO UPDATE SET holders = h.holders + more
            RETURNING holders INTO left_over;
        IF left_over = 0 THEN
            DELETE FROM slipway.holdings WHERE namespace = above AND digest = content;
        END IF;
        -- the first holder adds, the last one takes away
        IF left_over = (more + 1) / 2 THEN
            PERFORM slipway.add_sum(2::smallint, above, more * content_size, 0);
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION blob_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one slipway.blobs := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    was boolean := TG_OP <> 'INSERT' AND OLD.counted;
    now_is boolean := TG_OP <> 'DELETE' AND NEW.counted;
BEGIN
    IF was <> now_is AND NOT EXISTS (SELECT 1 FROM slipway.manifests m
        WHERE m.repository = one.repository AND m.digest = one.digest AND m.deleted IS NULL) THEN
        PERFORM slipway.hold(one.repository, one.digest, one.size, CASE WHEN now_is THEN 1 ELSE -1 END);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER blobs_changed AFTER INSERT OR DELETE OR UPDATE OF counted ON blobs
    FOR EACH ROW EXECUTE FUNCTION blob_changed();

CREATE FUNCTION manifest_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one slipway.manifests := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    was boolean := TG_OP <> 'INSERT' AND OLD.deleted IS NULL;
    now_is boolean := TG_OP <> 'DELETE' AND NEW.deleted IS NULL;
BEGIN
    IF was <> now_is AND NOT EXISTS (SELECT 1 FROM slipway.blobs b
        WHERE b.repository = one.repository AND b.digest = one.digest AND b.counted) THEN
        PERFORM slipway.hold(one.repository, one.digest, one.size, CASE WHEN now_is THEN 1 ELSE -1 END);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER manifests_changed AFTER INSERT OR DELETE OR UPDATE OF deleted ON manifests
    FOR EACH ROW EXECUTE FUNCTION manifest_changed();

CREATE FUNCTION tag_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of_repository bigint := CASE WHEN TG_OP = 'DELETE' THEN OLD.repository ELSE NEW.repository END;
    more bigint := CASE WHEN TG_OP = 'DELETE' THEN -1 ELSE 1 END;
    above bigint;
BEGIN
    PERFORM slipway.add_sum(1::smallint, of_repository, 0, more);
    FOR above IN SELECT namespace FROM slipway.members WHERE repository = of_repository ORDER BY namespace LOOP
        PERFORM slipway.add_sum(2::smallint, above, 0, more);
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER tags_changed AFTER INSERT OR DELETE ON tags FOR EACH ROW EXECUTE FUNCTION tag_changed();
