-- Variants of the tail of a trigger, to compare what the doorbell costs the writer.
DROP SCHEMA IF EXISTS bell CASCADE;
DROP TABLE IF EXISTS item;
CREATE SCHEMA bell;
CREATE TABLE item (id bigint PRIMARY KEY, tenant_id int NOT NULL, qty int NOT NULL DEFAULT 0, note text) WITH (fillfactor = 80);
INSERT INTO item (id, tenant_id, note) SELECT g, g % 500, repeat('x', 100) FROM generate_series(1, 100000) g;
VACUUM ANALYZE item;
CREATE TABLE bell.outbox (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), relation oid NOT NULL, op "char" NOT NULL, keys jsonb);
CREATE INDEX ON bell.outbox (xid);
CREATE SEQUENCE bell.active MINVALUE 0 START 0;
CREATE SEQUENCE bell.word MINVALUE 0 START 0;
SELECT setval('bell.active', 0), setval('bell.word', 0);

CREATE FUNCTION bell.variant(v text) RETURNS void LANGUAGE plpgsql AS $do$
DECLARE tail text;
BEGIN
  DROP TRIGGER IF EXISTS t ON item;
  TRUNCATE bell.outbox;
  IF v = 'none' THEN RETURN; END IF;
  tail := CASE v
    WHEN 'outbox' THEN ''
    WHEN 'advisory' THEN $$IF NOT pg_try_advisory_xact_lock_shared(77) THEN PERFORM pg_notify('bell', ''); END IF;$$
    WHEN 'word' THEN $$SELECT last_value INTO w FROM bell.word; IF w = 1 THEN PERFORM pg_notify('bell', ''); END IF;$$
    WHEN 'notify' THEN $$PERFORM pg_notify('bell', '');$$
  END;
  EXECUTE format($f$
    CREATE OR REPLACE FUNCTION bell.t() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $b$
    DECLARE c int; k jsonb; w bigint;
    BEGIN
      SELECT count(*) INTO c FROM (SELECT 1 FROM n LIMIT 2) s;
      IF c = 0 THEN RETURN NULL; END IF;
      SELECT jsonb_build_array(jsonb_build_object('id', n.id::text)) INTO k FROM n, o;
      SELECT last_value INTO w FROM bell.active;
      INSERT INTO bell.outbox (relation, op, keys) VALUES (TG_RELID, 'U', k);
      %s
      RETURN NULL;
    END $b$ $f$, tail);
  CREATE TRIGGER t AFTER UPDATE ON item REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION bell.t();
END $do$;
