-- Triggers of icache, made by icache-agent migrate export. Change the rules, not this file.
\set ON_ERROR_STOP on
BEGIN;
SET LOCAL lock_timeout = '2000ms'; -- fail rather than hold up the application

-- unmapped: trigger icache_truncate on public.products
DROP TRIGGER IF EXISTS "icache_truncate" ON "public"."products";

-- unmapped: trigger icache_delete on public.products
DROP TRIGGER IF EXISTS "icache_delete" ON "public"."products";

-- unmapped: trigger icache_update on public.products
DROP TRIGGER IF EXISTS "icache_update" ON "public"."products";

-- unmapped: trigger icache_insert on public.products
DROP TRIGGER IF EXISTS "icache_insert" ON "public"."products";

-- unmapped: trigger icache_truncate on public.orders_2024
DROP TRIGGER IF EXISTS "icache_truncate" ON "public"."orders_2024";

-- unmapped: trigger icache_truncate on public.orders
DROP TRIGGER IF EXISTS "icache_truncate" ON "public"."orders";

-- unmapped: trigger icache_row on public.orders
DROP TRIGGER IF EXISTS "icache_row" ON "public"."orders";

-- unmapped: function icache.public_products_delete
DROP FUNCTION IF EXISTS "icache"."public_products_delete"();

-- unmapped: function icache.public_products_update
DROP FUNCTION IF EXISTS "icache"."public_products_update"();

-- unmapped: function icache.public_products_insert
DROP FUNCTION IF EXISTS "icache"."public_products_insert"();

-- unmapped: function icache.public_orders_row
DROP FUNCTION IF EXISTS "icache"."public_orders_row"();

-- unmapped: function icache.record_truncate
DROP FUNCTION IF EXISTS "icache"."record_truncate"();

-- unmapped: function icache.record
DROP FUNCTION IF EXISTS "icache"."record"(oid, "char", jsonb);

-- unmapped: table meta
DROP TABLE IF EXISTS "icache"."meta";

-- unmapped: table tables
DROP TABLE IF EXISTS "icache"."tables";

-- unmapped: table purges
DROP TABLE IF EXISTS "icache"."purges";

-- unmapped: table rules
DROP TABLE IF EXISTS "icache"."rules";

-- unmapped: table cursor
DROP TABLE IF EXISTS "icache"."cursor";

-- unmapped: sequence overflow
DROP SEQUENCE IF EXISTS "icache"."overflow";

-- unmapped: sequence active
DROP SEQUENCE IF EXISTS "icache"."active";

-- unmapped: view outbox
DROP VIEW IF EXISTS "icache"."outbox";

-- unmapped: table outbox_1
DROP TABLE IF EXISTS "icache"."outbox_1";

-- unmapped: table outbox_0
DROP TABLE IF EXISTS "icache"."outbox_0";

-- unmapped: schema icache
DROP SCHEMA IF EXISTS "icache";

COMMIT;
