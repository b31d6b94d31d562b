-- Variants of a trigger function, made by editing the one that is installed:
-- run `icache-agent migrate up` first, with this rule for the table below.
--
--   - {table: item, tokens: ["item:{id}", "tenant:{tenant_id}"]}
--
-- cost.one, cost.many: processor time in µs that a statement takes in the backend.
DROP SCHEMA IF EXISTS cost CASCADE;
CREATE SCHEMA cost;
CREATE TABLE cost.original AS SELECT pg_get_functiondef('icache.public_item_update'::regproc) AS sql;

CREATE FUNCTION cost.replaced(body text, old text, new text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  IF regexp_replace(body, old, new, 'g') = body THEN RAISE 'the generated function has changed: % is not in it', old; END IF;
  RETURN regexp_replace(body, old, new, 'g');
END $$;

CREATE FUNCTION cost.variant(name text) RETURNS void LANGUAGE plpgsql AS $f$
DECLARE
  body text := (SELECT sql FROM cost.original);
BEGIN
  DROP TRIGGER IF EXISTS icache_update ON public.item;
  DROP TRIGGER IF EXISTS cost_row ON public.item;
  EXECUTE body;
  CASE name
  WHEN 'none' THEN RETURN;
  WHEN 'generated' THEN NULL;
  WHEN 'empty' THEN body := cost.replaced(body, '\nBEGIN\n.*END\n', E'\nBEGIN\n  RETURN NULL;\nEND\n');
  WHEN 'no search_path' THEN body := cost.replaced(body, ' SET search_path [^\n]*\n', '');
  WHEN 'invoker' THEN body := cost.replaced(body, ' SECURITY DEFINER\n', '');
  WHEN 'neither' THEN body := cost.replaced(cost.replaced(body, ' SECURITY DEFINER\n', ''), ' SET search_path [^\n]*\n', '');
  WHEN 'record()' THEN body := cost.replaced(body, 'IF icache_to = 0', 'IF icache_to = 99');
  WHEN 'no doorbell' THEN body := cost.replaced(body, ' OR NOT pg_try_advisory_xact_lock_shared\([^)]*\)', '');
  WHEN 'no overflow' THEN body := cost.replaced(body, 'WHEN pg_sequence_last_value\([^)]*\) = 1 OR ', 'WHEN ');
  WHEN 'no outbox row' THEN body := cost.replaced(body, 'INSERT INTO "icache"."outbox_0"[^;]*;', 'NULL;');
  WHEN 'arrays' THEN body := cost.replaced(body, '_object\(''id'', ([^,]*), ''tenant_id'', ([^()]*)\)', '_array(\1, \2)');
  WHEN 'no guard' THEN body := cost.replaced(cost.replaced(body, '  EXCEPTION WHEN OTHERS THEN -- not one[^\n]*\n[^\n]*\n  END;\n', ''), 'BEGIN\n  BEGIN\n', E'BEGIN\n');
  WHEN 'one function' THEN -- for all operations
    body := cost.replaced(body, 'bigint;\nBEGIN\n', E'bigint;\nBEGIN\n  IF TG_OP = ''INSERT'' THEN RETURN NULL; ELSIF TG_OP = ''DELETE'' THEN RETURN NULL; END IF;\n');
  WHEN 'except all' THEN
    body := cost.replaced(body, '        IF \(SELECT count\(\*\) <.*?        END IF;\n', $sql$        SELECT CASE WHEN count(*) < 1001 THEN coalesce(jsonb_agg(jsonb_build_object('id', k.k1, 'tenant_id', k.k2)), '[]') END INTO icache_keys FROM (
          SELECT DISTINCT id::text COLLATE "C" AS k1, tenant_id::text COLLATE "C" AS k2 FROM (
            (SELECT * FROM old_rows EXCEPT ALL SELECT * FROM new_rows) UNION ALL (SELECT * FROM new_rows EXCEPT ALL SELECT * FROM old_rows)) AS d LIMIT 1001) AS k;
$sql$);
  WHEN 'join only' THEN
    body := cost.replaced(body, '        IF \(SELECT count\(\*\) <[^;]*? THEN\n(.*?)        END IF;\n', '\1');
  WHEN 'row level' THEN
    EXECUTE format($sql$CREATE OR REPLACE FUNCTION cost.row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS %L$sql$,
      cost.replaced(cost.replaced(body, '^.*(?=  IF icache_to = 0 THEN)', $sql$
DECLARE icache_keys jsonb; icache_to bigint;
BEGIN
  BEGIN
    IF NOT (OLD *<> NEW) THEN RETURN NULL; END IF;
    icache_keys := CASE WHEN (ROW(OLD."id", OLD."tenant_id")::record *= ROW(NEW."id", NEW."tenant_id")::record)
      THEN jsonb_build_array(jsonb_build_object('id', NEW."id"::text, 'tenant_id', NEW."tenant_id"::text))
      ELSE jsonb_build_array(jsonb_build_object('id', OLD."id"::text, 'tenant_id', OLD."tenant_id"::text), jsonb_build_object('id', NEW."id"::text, 'tenant_id', NEW."tenant_id"::text)) END;
  EXCEPTION WHEN OTHERS THEN
    icache_keys := NULL;
  END;
  icache_to := CASE $sql$ || substring(body FROM 'WHEN pg_sequence_last_value[^\n]*\n[^\n]*END') || E';\n'), '\$function\$\s*$', ''));
    CREATE TRIGGER cost_row AFTER UPDATE ON public.item FOR EACH ROW EXECUTE FUNCTION cost.row();
    RETURN;
  END CASE;
  EXECUTE body;
  CREATE TRIGGER icache_update AFTER UPDATE ON public.item REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION icache.public_item_update();
END $f$;

CREATE FUNCTION cost.cpu() RETURNS float8 LANGUAGE sql AS $$ SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::float8 / 1e3 $$;

-- One statement for each row.
CREATE FUNCTION cost.one(statements int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE began float8 := cost.cpu();
BEGIN
  FOR i IN 1 .. statements LOOP UPDATE public.item SET qty = qty + 1 WHERE id = 1 + (i * 37) % 2000; END LOOP;
  RETURN (cost.cpu() - began) / statements;
END $$;

-- Statements that change so many rows.
CREATE FUNCTION cost.many(rows int, statements int) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE began float8 := cost.cpu();
BEGIN
  FOR i IN 1 .. statements LOOP UPDATE public.item SET qty = qty + 1 WHERE id > 10000 AND id <= 10000 + rows; END LOOP;
  RETURN (cost.cpu() - began) / statements;
END $$;
