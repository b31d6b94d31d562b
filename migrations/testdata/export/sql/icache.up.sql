-- Triggers of icache, made by icache-agent migrate export. Change the rules, not this file.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL lock_timeout = '2000ms'; -- fail rather than hold up the application

-- missing: role icache_writer
DO $icache$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'icache_writer') THEN
    CREATE ROLE "icache_writer" NOLOGIN;
  END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL; -- made for another database of the cluster at this moment
END
$icache$;

-- missing: membership in role icache_writer
GRANT "icache_writer" TO CURRENT_USER;

-- missing: schema icache
CREATE SCHEMA "icache";
REVOKE ALL ON SCHEMA "icache" FROM PUBLIC;

-- missing: table outbox_0
CREATE TABLE "icache"."outbox_0" (
  xid      xid8   NOT NULL DEFAULT pg_current_xact_id(), -- of the top level, in subtransactions too
  relation oid    NOT NULL,
  op       "char" NOT NULL, -- I, U, D or T
  keys     jsonb            -- NULL: everything of the table
) WITH (autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 2147483647);
CREATE INDEX ON "icache"."outbox_0" (xid);
REVOKE ALL ON "icache"."outbox_0" FROM PUBLIC;

-- missing: table outbox_1
CREATE TABLE "icache"."outbox_1" (
  xid      xid8   NOT NULL DEFAULT pg_current_xact_id(), -- of the top level, in subtransactions too
  relation oid    NOT NULL,
  op       "char" NOT NULL, -- I, U, D or T
  keys     jsonb            -- NULL: everything of the table
) WITH (autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 2147483647);
CREATE INDEX ON "icache"."outbox_1" (xid);
REVOKE ALL ON "icache"."outbox_1" FROM PUBLIC;

-- missing: view outbox
CREATE VIEW "icache"."outbox" AS
  SELECT xid, relation::regclass AS relation, op, keys FROM "icache"."outbox_0"
  UNION ALL SELECT xid, relation::regclass, op, keys FROM "icache"."outbox_1";
REVOKE ALL ON "icache"."outbox" FROM PUBLIC;

-- missing: sequence active
CREATE SEQUENCE "icache"."active" MINVALUE 0 START 0;
REVOKE ALL ON "icache"."active" FROM PUBLIC;
SELECT setval('"icache"."active"', 0);

-- missing: sequence overflow
CREATE SEQUENCE "icache"."overflow" MINVALUE 0 START 0;
REVOKE ALL ON "icache"."overflow" FROM PUBLIC;
SELECT setval('"icache"."overflow"', 0);

-- missing: table cursor
CREATE UNLOGGED TABLE "icache"."cursor" (
  one               boolean     PRIMARY KEY DEFAULT true CHECK (one),
  system_identifier bigint      NOT NULL,
  timeline          text        NOT NULL,
  started           timestamptz NOT NULL,
  snap              pg_snapshot NOT NULL,
  updated_at        timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10);
REVOKE ALL ON "icache"."cursor" FROM PUBLIC;

-- missing: table rules
CREATE UNLOGGED TABLE "icache"."rules" (
  name text PRIMARY KEY,
  mark text NOT NULL
);
REVOKE ALL ON "icache"."rules" FROM PUBLIC;

-- missing: table purges
CREATE UNLOGGED TABLE "icache"."purges" (
  agent text NOT NULL, -- the process that will do it; another takes over what it left
  sink  text NOT NULL, -- the CDN, as the config names it
  key   text NOT NULL,
  since timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (agent, sink, key)
);
REVOKE ALL ON "icache"."purges" FROM PUBLIC;

-- missing: table tables
CREATE TABLE "icache"."tables" (
  relation   regclass PRIMARY KEY,
  name       text NOT NULL, -- as the rules have it
  definition text NOT NULL
);
REVOKE ALL ON "icache"."tables" FROM PUBLIC;

-- missing: table meta
CREATE TABLE "icache"."meta" (
  key   text PRIMARY KEY,
  value text NOT NULL
);
REVOKE ALL ON "icache"."meta" FROM PUBLIC;

-- missing: rights of role icache_writer
GRANT USAGE ON SCHEMA "icache" TO "icache_writer";
GRANT INSERT ON "icache"."outbox_0", "icache"."outbox_1" TO "icache_writer";
GRANT SELECT ON SEQUENCE "icache"."active" TO "icache_writer";
GRANT SELECT, UPDATE ON SEQUENCE "icache"."overflow" TO "icache_writer";

-- missing: right of role icache_writer to own functions
GRANT CREATE ON SCHEMA "icache" TO "icache_writer";

-- missing: function icache.record
CREATE OR REPLACE FUNCTION "icache"."record"(relation oid, op "char", keys jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $icache$
-- icache 09599bf6915fcb51: generated; change the rules, not this function
DECLARE
  icache_full boolean := false;
BEGIN
  IF random() < 0.1 THEN
    BEGIN
      icache_full := pg_total_relation_size('"icache"."outbox_0"'::regclass) + pg_total_relation_size('"icache"."outbox_1"'::regclass) > 268435456;
    EXCEPTION WHEN OTHERS THEN
      NULL; -- a table is being emptied, and lock_timeout is short: never fail the statement for that
    END;
  END IF;
  IF pg_sequence_last_value('"icache"."overflow"'::regclass) = 1 THEN
    NULL; -- the agent is too far behind and will start over: nothing more is kept for it
  ELSIF icache_full THEN
    PERFORM setval('"icache"."overflow"'::regclass, 1);
  ELSIF pg_sequence_last_value('"icache"."active"'::regclass) = 1 THEN
    INSERT INTO "icache"."outbox_1" (relation, op, keys) VALUES (record.relation, record.op, record.keys);
  ELSE
    INSERT INTO "icache"."outbox_0" (relation, op, keys) VALUES (record.relation, record.op, record.keys);
  END IF;
  IF NOT pg_try_advisory_xact_lock_shared(-2911417119593360410) THEN
    PERFORM pg_notify('icache', ''); -- the agent sleeps
  END IF;
END
$icache$;
REVOKE ALL ON FUNCTION "icache"."record"(oid, "char", jsonb) FROM PUBLIC;
ALTER FUNCTION "icache"."record"(oid, "char", jsonb) OWNER TO "icache_writer";

-- missing: function icache.record_truncate
CREATE OR REPLACE FUNCTION "icache"."record_truncate"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $icache$
-- icache 89d80312b5a06a75: generated; change the rules, not this function
BEGIN
  PERFORM "icache"."record"(TG_RELID, 'T', NULL);
  RETURN NULL;
END
$icache$;
REVOKE ALL ON FUNCTION "icache"."record_truncate"() FROM PUBLIC;
ALTER FUNCTION "icache"."record_truncate"() OWNER TO "icache_writer";

-- missing: function icache.public_orders_row
CREATE OR REPLACE FUNCTION "icache"."public_orders_row"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET "DateStyle" = 'ISO, YMD'
SET "TimeZone" = 'UTC'
SET search_path = pg_catalog, pg_temp
AS $icache$
-- icache 16822894890444ba: generated for public.orders; change the rules, not this function
#variable_conflict use_column
DECLARE
  icache_old boolean := TG_OP <> 'INSERT';
  icache_new boolean := TG_OP <> 'DELETE';
  icache_relation oid := TG_RELID;
  icache_keys jsonb;
  icache_rows integer;
  icache_to bigint;
BEGIN
  IF current_setting('icache.all_c27fb815b856b1e0', true) = pg_current_xact_id()::text THEN
    RETURN NULL; -- this transaction has recorded that everything changed
  END IF;
  BEGIN
    IF TG_OP = 'UPDATE' AND icache_old = icache_new AND NOT (OLD *<> NEW) THEN
      RETURN NULL;
    END IF;
    icache_rows := coalesce(nullif(current_setting('icache.rows_c27fb815b856b1e0', true), '')::integer, 0) + 1;
    IF icache_rows <= 1000 THEN
      icache_keys := CASE WHEN NOT icache_new THEN jsonb_build_array(jsonb_build_object('customer', OLD."customer"::text, 'placed', OLD."placed"::text))
        WHEN NOT icache_old OR (ROW(OLD."customer", OLD."placed")::record *= ROW(NEW."customer", NEW."placed")::record) THEN jsonb_build_array(jsonb_build_object('customer', NEW."customer"::text, 'placed', NEW."placed"::text))
        ELSE jsonb_build_array(jsonb_build_object('customer', OLD."customer"::text, 'placed', OLD."placed"::text), jsonb_build_object('customer', NEW."customer"::text, 'placed', NEW."placed"::text)) END;
    END IF;
  EXCEPTION WHEN OTHERS THEN -- the table is not what it was: never fail the statement for that
    icache_keys := NULL;
  END;
  IF icache_keys IS NULL THEN
    PERFORM set_config('icache.all_c27fb815b856b1e0', pg_current_xact_id()::text, true);
    WITH RECURSIVE up AS (
      SELECT tgrelid, tgparentid FROM pg_trigger WHERE tgrelid = TG_RELID AND tgname = TG_NAME
      UNION ALL SELECT t.tgrelid, t.tgparentid FROM pg_trigger AS t JOIN up ON t.oid = up.tgparentid)
    SELECT coalesce((SELECT tgrelid FROM up WHERE tgparentid = 0), TG_RELID) INTO icache_relation;
  ELSE
    icache_rows := set_config('icache.rows_c27fb815b856b1e0', icache_rows::text, true);
  END IF;
  icache_to := CASE WHEN pg_sequence_last_value('"icache"."overflow"'::regclass) = 1 OR random() < 0.02 OR NOT pg_try_advisory_xact_lock_shared(-2911417119593360410) THEN -2
      ELSE pg_sequence_last_value('"icache"."active"'::regclass) END;
  IF icache_to = 0 THEN
    INSERT INTO "icache"."outbox_0" (relation, op, keys) VALUES (icache_relation, left(TG_OP, 1)::"char", icache_keys);
  ELSIF icache_to = 1 THEN
    INSERT INTO "icache"."outbox_1" (relation, op, keys) VALUES (icache_relation, left(TG_OP, 1)::"char", icache_keys);
  ELSE
    PERFORM "icache"."record"(icache_relation, left(TG_OP, 1)::"char", icache_keys);
  END IF;
  RETURN NULL;
END
$icache$;
REVOKE ALL ON FUNCTION "icache"."public_orders_row"() FROM PUBLIC;
ALTER FUNCTION "icache"."public_orders_row"() OWNER TO "icache_writer";

-- missing: function icache.public_products_insert
CREATE OR REPLACE FUNCTION "icache"."public_products_insert"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $icache$
-- icache c87db63d09443424: generated for public.products; change the rules, not this function
#variable_conflict use_column
DECLARE
  icache_keys jsonb;
  icache_to bigint;
BEGIN
  BEGIN
    SELECT jsonb_build_array(jsonb_build_object('id', r."id"::text, 'category', r."category"::text, 'tags[]', to_jsonb(r."tags"::text[]))), CASE WHEN NOT r."icache when" THEN -1
      WHEN pg_sequence_last_value('"icache"."overflow"'::regclass) = 1 OR random() < 0.02 OR NOT pg_try_advisory_xact_lock_shared(-2911417119593360410) THEN -2
      ELSE pg_sequence_last_value('"icache"."active"'::regclass) END
      INTO STRICT icache_keys, icache_to FROM (SELECT *, (
price > 0
) IS TRUE AS "icache when" FROM new_rows AS "products") AS r LIMIT 2;
  EXCEPTION WHEN OTHERS THEN -- not one row, or the table is not what it was
    icache_to := NULL;
  END;
  IF icache_to = 0 THEN
    INSERT INTO "icache"."outbox_0" (relation, op, keys) VALUES (TG_RELID, 'I', icache_keys);
  ELSIF icache_to = 1 THEN
    INSERT INTO "icache"."outbox_1" (relation, op, keys) VALUES (TG_RELID, 'I', icache_keys);
  ELSE
    IF icache_to = -1 THEN
      RETURN NULL; -- nothing changed
    ELSIF icache_to IS NULL THEN
      IF NOT EXISTS (SELECT FROM new_rows) THEN
        RETURN NULL;
      END IF;
      BEGIN
        icache_keys := NULL;
        IF (SELECT count(*) < 1001 FROM (SELECT FROM (SELECT * FROM new_rows AS "products" WHERE (
price > 0
)) AS r LIMIT 1001) AS l) THEN
          SELECT coalesce(jsonb_agg(jsonb_build_object('id', r."id"::text, 'category', r."category"::text, 'tags[]', to_jsonb(r."tags"::text[]))), '[]') INTO icache_keys FROM (SELECT * FROM new_rows AS "products" WHERE (
price > 0
)) AS r;
        END IF;
      EXCEPTION WHEN OTHERS THEN -- never fail the statement for that
        icache_keys := NULL;
      END;
      IF icache_keys = '[]' THEN
        RETURN NULL;
      END IF;
    END IF;
    PERFORM "icache"."record"(TG_RELID, 'I', icache_keys);
  END IF;
  RETURN NULL;
END
$icache$;
REVOKE ALL ON FUNCTION "icache"."public_products_insert"() FROM PUBLIC;
ALTER FUNCTION "icache"."public_products_insert"() OWNER TO "icache_writer";

-- missing: function icache.public_products_update
CREATE OR REPLACE FUNCTION "icache"."public_products_update"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $icache$
-- icache 73db7bbec380387d: generated for public.products; change the rules, not this function
#variable_conflict use_column
DECLARE
  icache_keys jsonb;
  icache_to bigint;
BEGIN
  BEGIN
    SELECT jsonb_build_array(jsonb_build_object('id', n."id"::text, 'category', n."category"::text, 'tags[]', to_jsonb(n."tags"::text[]))), CASE WHEN NOT (o."icache when" OR n."icache when") OR NOT ((ROW(o."title", o."price", o."id", o."category", o."tags")::record *<> ROW(n."title", n."price", n."id", n."category", n."tags")::record) OR o."icache when" <> n."icache when") THEN -1
      WHEN NOT n."icache when" OR o."icache when" AND (NOT (ROW(o."id", o."category", o."tags")::record *= ROW(n."id", n."category", n."tags")::record)) THEN NULL
      WHEN pg_sequence_last_value('"icache"."overflow"'::regclass) = 1 OR random() < 0.02 OR NOT pg_try_advisory_xact_lock_shared(-2911417119593360410) THEN -2
      ELSE pg_sequence_last_value('"icache"."active"'::regclass) END
      INTO STRICT icache_keys, icache_to FROM (SELECT *, (
price > 0
) IS TRUE AS "icache when" FROM old_rows AS "products") AS o, (SELECT *, (
price > 0
) IS TRUE AS "icache when" FROM new_rows AS "products") AS n LIMIT 2;
  EXCEPTION WHEN OTHERS THEN -- not one row, or the table is not what it was
    icache_to := NULL;
  END;
  IF icache_to = 0 THEN
    INSERT INTO "icache"."outbox_0" (relation, op, keys) VALUES (TG_RELID, 'U', icache_keys);
  ELSIF icache_to = 1 THEN
    INSERT INTO "icache"."outbox_1" (relation, op, keys) VALUES (TG_RELID, 'U', icache_keys);
  ELSE
    IF icache_to = -1 THEN
      RETURN NULL; -- nothing changed
    ELSIF icache_to IS NULL THEN
      IF NOT EXISTS (SELECT FROM new_rows) THEN
        RETURN NULL;
      END IF;
      BEGIN
        icache_keys := NULL;
        IF (SELECT count(*) < 1001 FROM (SELECT FROM new_rows LIMIT 1001) AS l) OR NOT EXISTS (
          SELECT FROM (SELECT * FROM (SELECT * FROM old_rows AS "products" WHERE (
price > 0
)) AS r LIMIT 1) AS o, (SELECT * FROM (SELECT * FROM new_rows AS "products" WHERE (
price > 0
)) AS r LIMIT 1) AS n WHERE o."id" = n."id" AND (ROW(o."title", o."price", o."id", o."category", o."tags")::record *<> ROW(n."title", n."price", n."id", n."category", n."tags")::record)) THEN
        SELECT CASE WHEN count(*) < 1001 THEN coalesce(jsonb_agg(jsonb_build_object('id', k.k1, 'category', k.k2, 'tags[]', k.k3)), '[]') END INTO icache_keys FROM (
          SELECT DISTINCT k.k1, k.k2, k.k3 FROM (SELECT * FROM old_rows AS "products" WHERE (
price > 0
)) AS o FULL JOIN (SELECT * FROM new_rows AS "products" WHERE (
price > 0
)) AS n ON o."id" = n."id"
          CROSS JOIN LATERAL (VALUES (o."id" IS NOT NULL, o."id"::text COLLATE "C", o."category"::text COLLATE "C", to_jsonb(o."tags"::text[])), (n."id" IS NOT NULL, n."id"::text COLLATE "C", n."category"::text COLLATE "C", to_jsonb(n."tags"::text[]))) AS k(present, k1, k2, k3)
          WHERE k.present AND (o."id" IS NULL OR n."id" IS NULL OR (ROW(o."title", o."price", o."id", o."category", o."tags")::record *<> ROW(n."title", n."price", n."id", n."category", n."tags")::record)) LIMIT 1001) AS k;
        END IF;
      EXCEPTION WHEN OTHERS THEN -- never fail the statement for that
        icache_keys := NULL;
      END;
      IF icache_keys = '[]' THEN
        RETURN NULL;
      END IF;
    END IF;
    PERFORM "icache"."record"(TG_RELID, 'U', icache_keys);
  END IF;
  RETURN NULL;
END
$icache$;
REVOKE ALL ON FUNCTION "icache"."public_products_update"() FROM PUBLIC;
ALTER FUNCTION "icache"."public_products_update"() OWNER TO "icache_writer";

-- missing: function icache.public_products_delete
CREATE OR REPLACE FUNCTION "icache"."public_products_delete"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $icache$
-- icache 9226612b6d0f1001: generated for public.products; change the rules, not this function
#variable_conflict use_column
DECLARE
  icache_keys jsonb;
  icache_to bigint;
BEGIN
  BEGIN
    SELECT jsonb_build_array(jsonb_build_object('id', r."id"::text, 'category', r."category"::text, 'tags[]', to_jsonb(r."tags"::text[]))), CASE WHEN NOT r."icache when" THEN -1
      WHEN pg_sequence_last_value('"icache"."overflow"'::regclass) = 1 OR random() < 0.02 OR NOT pg_try_advisory_xact_lock_shared(-2911417119593360410) THEN -2
      ELSE pg_sequence_last_value('"icache"."active"'::regclass) END
      INTO STRICT icache_keys, icache_to FROM (SELECT *, (
price > 0
) IS TRUE AS "icache when" FROM old_rows AS "products") AS r LIMIT 2;
  EXCEPTION WHEN OTHERS THEN -- not one row, or the table is not what it was
    icache_to := NULL;
  END;
  IF icache_to = 0 THEN
    INSERT INTO "icache"."outbox_0" (relation, op, keys) VALUES (TG_RELID, 'D', icache_keys);
  ELSIF icache_to = 1 THEN
    INSERT INTO "icache"."outbox_1" (relation, op, keys) VALUES (TG_RELID, 'D', icache_keys);
  ELSE
    IF icache_to = -1 THEN
      RETURN NULL; -- nothing changed
    ELSIF icache_to IS NULL THEN
      IF NOT EXISTS (SELECT FROM old_rows) THEN
        RETURN NULL;
      END IF;
      BEGIN
        icache_keys := NULL;
        IF (SELECT count(*) < 1001 FROM (SELECT FROM (SELECT * FROM old_rows AS "products" WHERE (
price > 0
)) AS r LIMIT 1001) AS l) THEN
          SELECT coalesce(jsonb_agg(jsonb_build_object('id', r."id"::text, 'category', r."category"::text, 'tags[]', to_jsonb(r."tags"::text[]))), '[]') INTO icache_keys FROM (SELECT * FROM old_rows AS "products" WHERE (
price > 0
)) AS r;
        END IF;
      EXCEPTION WHEN OTHERS THEN -- never fail the statement for that
        icache_keys := NULL;
      END;
      IF icache_keys = '[]' THEN
        RETURN NULL;
      END IF;
    END IF;
    PERFORM "icache"."record"(TG_RELID, 'D', icache_keys);
  END IF;
  RETURN NULL;
END
$icache$;
REVOKE ALL ON FUNCTION "icache"."public_products_delete"() FROM PUBLIC;
ALTER FUNCTION "icache"."public_products_delete"() OWNER TO "icache_writer";

-- missing: end of that right
REVOKE CREATE ON SCHEMA "icache" FROM "icache_writer";

-- missing: trigger icache_row on public.orders
CREATE OR REPLACE TRIGGER "icache_row" AFTER INSERT OR UPDATE OR DELETE ON "public"."orders"
  FOR EACH ROW EXECUTE FUNCTION "icache"."public_orders_row"();

-- missing: trigger icache_truncate on public.orders
CREATE OR REPLACE TRIGGER "icache_truncate" AFTER TRUNCATE ON "public"."orders"
  FOR EACH STATEMENT EXECUTE FUNCTION "icache"."record_truncate"();

-- missing: trigger icache_truncate on public.orders_2024
CREATE OR REPLACE TRIGGER "icache_truncate" AFTER TRUNCATE ON "public"."orders_2024"
  FOR EACH STATEMENT EXECUTE FUNCTION "icache"."record_truncate"();

-- missing: trigger icache_insert on public.products
CREATE OR REPLACE TRIGGER "icache_insert" AFTER INSERT ON "public"."products"
  REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION "icache"."public_products_insert"();

-- missing: trigger icache_update on public.products
CREATE OR REPLACE TRIGGER "icache_update" AFTER UPDATE ON "public"."products"
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION "icache"."public_products_update"();

-- missing: trigger icache_delete on public.products
CREATE OR REPLACE TRIGGER "icache_delete" AFTER DELETE ON "public"."products"
  REFERENCING OLD TABLE AS old_rows
  FOR EACH STATEMENT EXECUTE FUNCTION "icache"."public_products_delete"();

-- missing: trigger icache_truncate on public.products
CREATE OR REPLACE TRIGGER "icache_truncate" AFTER TRUNCATE ON "public"."products"
  FOR EACH STATEMENT EXECUTE FUNCTION "icache"."record_truncate"();

-- missing: entry for table public.orders
INSERT INTO "icache"."tables" (relation, name, definition) VALUES ('"public"."orders"'::regclass, 'public.orders',
  '{"level":"row","on":["insert","update","delete","truncate"],"keys":["customer","placed"],"max_keys":1000,"primary_key":["id","placed"]}')
  ON CONFLICT (relation) DO UPDATE SET name = EXCLUDED.name, definition = EXCLUDED.definition;

-- missing: entry for table public.products
INSERT INTO "icache"."tables" (relation, name, definition) VALUES ('"public"."products"'::regclass, 'public.products',
  '{"level":"statement","on":["insert","update","delete","truncate"],"keys":["id","category","tags[]"],"columns":["title","price"],"when":"price > 0","max_keys":1000,"primary_key":["id"]}')
  ON CONFLICT (relation) DO UPDATE SET name = EXCLUDED.name, definition = EXCLUDED.definition;

-- missing: version of the objects
INSERT INTO "icache"."meta" (key, value) VALUES ('version', '1') ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value;

COMMIT;
