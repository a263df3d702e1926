CREATE TABLE repositories (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE
);
CREATE TABLE blobs (               -- which repository has which blob: the one source of truth for membership
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    digest        TEXT NOT NULL,
    size          INTEGER NOT NULL, -- bytes
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON blobs (digest);
CREATE TABLE manifests (
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    digest        TEXT NOT NULL,
    media_type    TEXT NOT NULL,    -- as first pushed
    size          INTEGER NOT NULL, -- bytes
    subject       TEXT,             -- digest
    artifact_type TEXT,             -- what a referrers entry shows
    annotations   TEXT,             -- JSON object, only where there is a subject
    PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX manifests_by_digest ON manifests (digest);
CREATE INDEX manifests_by_subject ON manifests (repository, subject, digest) WHERE subject IS NOT NULL;
CREATE TABLE edges (                -- what a manifest needs in its repository
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    manifest      TEXT NOT NULL,
    target        TEXT NOT NULL,    -- digest
    kind          INTEGER NOT NULL, -- 1: a blob; 2: a manifest, or a blob in its place; 3: the subject
    PRIMARY KEY (repository, manifest, target, kind)
) WITHOUT ROWID;
CREATE INDEX edges_by_target ON edges (repository, target, kind);
CREATE TABLE tags (
    repository    INTEGER NOT NULL REFERENCES repositories (id),
    name          TEXT NOT NULL,
    digest        TEXT NOT NULL,    -- of a manifest of the same repository
    updated       INTEGER NOT NULL,
    PRIMARY KEY (repository, name)
) WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (repository, digest);
CREATE TABLE condemned (            -- content that nothing points at and that is being removed
    digest        TEXT PRIMARY KEY,
    since         INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE uploads (
    id            TEXT PRIMARY KEY,
    repository    TEXT NOT NULL,    -- by name: a repository begins with its first finished push
    algorithm     TEXT NOT NULL,
    started       INTEGER NOT NULL,
    touched       INTEGER NOT NULL,
    length        INTEGER NOT NULL, -- bytes that were acknowledged
    hash          BLOB,             -- the hash state over these bytes
    place         BLOB NOT NULL     -- what content needs to go on
) WITHOUT ROWID;
CREATE INDEX uploads_by_repository ON uploads (repository, touched);
CREATE INDEX uploads_by_age ON uploads (touched);
