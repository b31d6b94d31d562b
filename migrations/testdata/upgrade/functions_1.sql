CREATE OR REPLACE FUNCTION icache.public_films_delete()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- icache 9c893ac48a7a813b: generated for public.films; change the rules, not this function
#variable_conflict use_column
DECLARE
  icache_keys jsonb;
BEGIN
  BEGIN
    SELECT jsonb_build_array(jsonb_build_object('id', r."id"::text, 'genre', r."genre"::text)) INTO STRICT icache_keys FROM old_rows AS r;
  EXCEPTION
    WHEN too_many_rows THEN
      BEGIN
        IF (SELECT count(*) < 1001 FROM (SELECT FROM old_rows AS r LIMIT 1001) AS l) THEN
          SELECT coalesce(jsonb_agg(jsonb_build_object('id', r."id"::text, 'genre', r."genre"::text)), '[]') INTO icache_keys FROM old_rows AS r;
        END IF;
      EXCEPTION WHEN OTHERS THEN -- the table is not what it was: never fail the statement for that
        icache_keys := NULL;
      END;
    WHEN OTHERS THEN -- no row, or the same as above
      IF NOT EXISTS (SELECT FROM old_rows) THEN
        RETURN NULL;
      END IF;
      icache_keys := NULL;
  END;
  IF icache_keys = '[]' THEN
    RETURN NULL;
  END IF;
  IF pg_sequence_last_value('"icache"."overflow"'::regclass) = 1 THEN
    NULL; -- the agent is too far behind and will start over: nothing more is kept for it
  ELSIF random() < 0.02 AND pg_total_relation_size('"icache"."outbox_0"'::regclass) + pg_total_relation_size('"icache"."outbox_1"'::regclass) > 268435456 THEN
    PERFORM setval('"icache"."overflow"'::regclass, 1);
  ELSIF pg_sequence_last_value('"icache"."active"'::regclass) = 1 THEN
    INSERT INTO "icache"."outbox_1" (relation, op, keys) VALUES (TG_RELID, 'D', icache_keys);
  ELSE
    INSERT INTO "icache"."outbox_0" (relation, op, keys) VALUES (TG_RELID, 'D', icache_keys);
  END IF;
  IF NOT pg_try_advisory_xact_lock_shared(-2911417119593360410) THEN
    PERFORM pg_notify('icache', ''); -- the agent sleeps
  END IF;
  RETURN NULL;
END
$function$
;
CREATE OR REPLACE FUNCTION icache.public_films_insert()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- icache 9b900b2c9e0c1fb7: generated for public.films; change the rules, not this function
#variable_conflict use_column
DECLARE
  icache_keys jsonb;
BEGIN
  BEGIN
    SELECT jsonb_build_array(jsonb_build_object('id', r."id"::text, 'genre', r."genre"::text)) INTO STRICT icache_keys FROM new_rows AS r;
  EXCEPTION
    WHEN too_many_rows THEN
      BEGIN
        IF (SELECT count(*) < 1001 FROM (SELECT FROM new_rows AS r LIMIT 1001) AS l) THEN
          SELECT coalesce(jsonb_agg(jsonb_build_object('id', r."id"::text, 'genre', r."genre"::text)), '[]') INTO icache_keys FROM new_rows AS r;
        END IF;
      EXCEPTION WHEN OTHERS THEN -- the table is not what it was: never fail the statement for that
        icache_keys := NULL;
      END;
    WHEN OTHERS THEN -- no row, or the same as above
      IF NOT EXISTS (SELECT FROM new_rows) THEN
        RETURN NULL;
      END IF;
      icache_keys := NULL;
  END;
  IF icache_keys = '[]' THEN
    RETURN NULL;
  END IF;
  IF pg_sequence_last_value('"icache"."overflow"'::regclass) = 1 THEN
    NULL; -- the agent is too far behind and will start over: nothing more is kept for it
  ELSIF random() < 0.02 AND pg_total_relation_size('"icache"."outbox_0"'::regclass) + pg_total_relation_size('"icache"."outbox_1"'::regclass) > 268435456 THEN
    PERFORM setval('"icache"."overflow"'::regclass, 1);
  ELSIF pg_sequence_last_value('"icache"."active"'::regclass) = 1 THEN
    INSERT INTO "icache"."outbox_1" (relation, op, keys) VALUES (TG_RELID, 'I', icache_keys);
  ELSE
    INSERT INTO "icache"."outbox_0" (relation, op, keys) VALUES (TG_RELID, 'I', icache_keys);
  END IF;
  IF NOT pg_try_advisory_xact_lock_shared(-2911417119593360410) THEN
    PERFORM pg_notify('icache', ''); -- the agent sleeps
  END IF;
  RETURN NULL;
END
$function$
;
CREATE OR REPLACE FUNCTION icache.public_films_update()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- icache 17bb3a0e8976016e: generated for public.films; change the rules, not this function
#variable_conflict use_column
DECLARE
  icache_keys jsonb;
BEGIN
  BEGIN
    SELECT CASE WHEN NOT (o.* *<> n.*) THEN '[]'
        WHEN (ROW(o."id", o."genre")::record *= ROW(n."id", n."genre")::record) THEN jsonb_build_array(jsonb_build_object('id', n."id"::text, 'genre', n."genre"::text))
        ELSE jsonb_build_array(jsonb_build_object('id', o."id"::text, 'genre', o."genre"::text), jsonb_build_object('id', n."id"::text, 'genre', n."genre"::text)) END
      INTO STRICT icache_keys FROM old_rows AS o, (SELECT * FROM new_rows AS r LIMIT 2) AS n;
  EXCEPTION
    WHEN too_many_rows THEN
      BEGIN
        IF (SELECT count(*) < 1001 FROM (SELECT FROM new_rows LIMIT 1001) AS l) OR NOT EXISTS (
          SELECT FROM (SELECT * FROM old_rows AS r LIMIT 1) AS o, (SELECT * FROM new_rows AS r LIMIT 1) AS n WHERE o."id" = n."id" AND (o.* *<> n.*)) THEN
        SELECT CASE WHEN count(*) < 1001 THEN coalesce(jsonb_agg(jsonb_build_object('id', k.k1, 'genre', k.k2)), '[]') END INTO icache_keys FROM (
          SELECT DISTINCT k.k1, k.k2 FROM old_rows AS o FULL JOIN new_rows AS n ON o."id" = n."id"
          CROSS JOIN LATERAL (VALUES (o."id" IS NOT NULL, o."id"::text COLLATE "C", o."genre"::text COLLATE "C"), (n."id" IS NOT NULL, n."id"::text COLLATE "C", n."genre"::text COLLATE "C")) AS k(present, k1, k2)
          WHERE k.present AND (o."id" IS NULL OR n."id" IS NULL OR (o.* *<> n.*)) LIMIT 1001) AS k;
        END IF;
      EXCEPTION WHEN OTHERS THEN -- the table is not what it was: never fail the statement for that
        icache_keys := NULL;
      END;
    WHEN OTHERS THEN -- no row, or the same as above
      IF NOT EXISTS (SELECT FROM new_rows) THEN
        RETURN NULL;
      END IF;
      icache_keys := NULL;
  END;
  IF icache_keys = '[]' THEN
    RETURN NULL;
  END IF;
  IF pg_sequence_last_value('"icache"."overflow"'::regclass) = 1 THEN
    NULL; -- the agent is too far behind and will start over: nothing more is kept for it
  ELSIF random() < 0.02 AND pg_total_relation_size('"icache"."outbox_0"'::regclass) + pg_total_relation_size('"icache"."outbox_1"'::regclass) > 268435456 THEN
    PERFORM setval('"icache"."overflow"'::regclass, 1);
  ELSIF pg_sequence_last_value('"icache"."active"'::regclass) = 1 THEN
    INSERT INTO "icache"."outbox_1" (relation, op, keys) VALUES (TG_RELID, 'U', icache_keys);
  ELSE
    INSERT INTO "icache"."outbox_0" (relation, op, keys) VALUES (TG_RELID, 'U', icache_keys);
  END IF;
  IF NOT pg_try_advisory_xact_lock_shared(-2911417119593360410) THEN
    PERFORM pg_notify('icache', ''); -- the agent sleeps
  END IF;
  RETURN NULL;
END
$function$
;
CREATE OR REPLACE FUNCTION icache.record(relation oid, op "char", keys jsonb)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- icache 77fb5dc40677a19e: generated; change the rules, not this function
BEGIN
  IF pg_sequence_last_value('"icache"."overflow"'::regclass) = 1 THEN
    NULL; -- the agent is too far behind and will start over: nothing more is kept for it
  ELSIF random() < 0.02 AND pg_total_relation_size('"icache"."outbox_0"'::regclass) + pg_total_relation_size('"icache"."outbox_1"'::regclass) > 268435456 THEN
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
$function$
;
CREATE OR REPLACE FUNCTION icache.record_truncate()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
-- icache cebd092e1eebd320: generated; change the rules, not this function
BEGIN
  IF pg_sequence_last_value('"icache"."overflow"'::regclass) = 1 THEN
    NULL; -- the agent is too far behind and will start over: nothing more is kept for it
  ELSIF random() < 0.02 AND pg_total_relation_size('"icache"."outbox_0"'::regclass) + pg_total_relation_size('"icache"."outbox_1"'::regclass) > 268435456 THEN
    PERFORM setval('"icache"."overflow"'::regclass, 1);
  ELSIF pg_sequence_last_value('"icache"."active"'::regclass) = 1 THEN
    INSERT INTO "icache"."outbox_1" (relation, op, keys) VALUES (TG_RELID, 'T', NULL);
  ELSE
    INSERT INTO "icache"."outbox_0" (relation, op, keys) VALUES (TG_RELID, 'T', NULL);
  END IF;
  IF NOT pg_try_advisory_xact_lock_shared(-2911417119593360410) THEN
    PERFORM pg_notify('icache', ''); -- the agent sleeps
  END IF;
  RETURN NULL;
END
$function$
;
