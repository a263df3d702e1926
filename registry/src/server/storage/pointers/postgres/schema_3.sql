-- Version 3: what replicas remember is told when it changes, on channel `slipway`: `t<repository> <tag>` points elsewhere,
-- `r<repository>` lost something, `c<digest>` is condemned. What is new is not told: nobody remembers that something is not there.
CREATE FUNCTION tell_tag() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_notify('slipway', 't' || OLD.repository || ' ' || OLD.name);
    RETURN NULL;
END $$;
CREATE TRIGGER tags_gone AFTER DELETE ON tags FOR EACH ROW EXECUTE FUNCTION tell_tag();
CREATE TRIGGER tags_moved AFTER UPDATE OF digest ON tags FOR EACH ROW
    WHEN (OLD.digest <> NEW.digest) EXECUTE FUNCTION tell_tag();

-- of many rows of a repository in one transaction one word is told
CREATE FUNCTION tell_repository() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_notify('slipway', 'r' || OLD.repository);
    RETURN NULL;
END $$;
CREATE TRIGGER manifests_gone AFTER DELETE ON manifests FOR EACH ROW EXECUTE FUNCTION tell_repository();
CREATE TRIGGER manifests_trashed AFTER UPDATE OF deleted ON manifests FOR EACH ROW
    WHEN (OLD.deleted IS NULL AND NEW.deleted IS NOT NULL) EXECUTE FUNCTION tell_repository();
CREATE TRIGGER blobs_gone AFTER DELETE ON blobs FOR EACH ROW EXECUTE FUNCTION tell_repository();
CREATE TRIGGER blobs_trashed AFTER UPDATE OF deleted, loose, size ON blobs FOR EACH ROW
    WHEN (OLD.deleted IS NULL AND NEW.deleted IS NOT NULL OR OLD.loose IS NULL AND NEW.loose IS NOT NULL
        OR OLD.size <> NEW.size) EXECUTE FUNCTION tell_repository();

CREATE FUNCTION tell_condemned() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_notify('slipway', 'c' || NEW.digest);
    RETURN NULL;
END $$;
CREATE TRIGGER condemned_told AFTER INSERT ON condemned FOR EACH ROW EXECUTE FUNCTION tell_condemned();
