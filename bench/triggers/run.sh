#!/usr/bin/env bash
# Processor time per statement of variants of the update trigger, on a quiet machine or not: least of several
# rounds, interleaved. With pgbench as well (run.sh pgbench) on a quiet one. libpq's PG* variables name the
# server; needs a superuser and a database for itself, and icache-agent to have set it up:
#
#   psql -c 'CREATE TABLE item (id bigint PRIMARY KEY, tenant_id int NOT NULL, qty int NOT NULL DEFAULT 0, note text) WITH (fillfactor = 80)'
#   icache-agent migrate up -c item.yaml      # the rule is in setup.sql
set -euo pipefail
cd "$(dirname "$0")"
rounds=${ROUNDS:-7}
variants=('none' 'empty' 'generated' 'no search_path' 'invoker' 'neither' 'record()' 'no doorbell' 'no overflow' 'no outbox row' 'arrays' 'no guard' 'one function' 'row level')
bulk=('none' 'empty' 'generated' 'join only' 'except all' 'row level')
export PGOPTIONS="-c client_min_messages=warning ${PGOPTIONS:-}"
run() { psql -qXAt -v ON_ERROR_STOP=1 "$@"; }
run -f setup.sql
trap 'run -c "SELECT cost.variant(\$\$generated\$\$)" >/dev/null; rm -f "${script:-}"' EXIT
run -c "TRUNCATE item" -c "INSERT INTO item SELECT g, g % 500, 0, repeat('x', 100) FROM generate_series(1, 100000) g" -c "VACUUM ANALYZE item"

if [ "${1:-}" = pgbench ]; then # ratios to the run without a trigger of the same round, medians
  script=$(mktemp)
  printf '\\set id random(1, 100000)\nUPDATE item SET qty = qty + 1 WHERE id = :id;\n' >"$script"
  for round in $(seq "$rounds"); do for clients in 1 16 64; do for v in none empty generated 'no search_path' 'no outbox row' 'row level'; do
    run -c "SELECT cost.variant('$v')" >/dev/null
    echo "$round|$clients|$v|$(pgbench -n -M prepared -c "$clients" -j $((clients < 2 ? 1 : 2)) -T "${SECONDS_EACH:-3}" -f "$script" 2>/dev/null | awk '/^tps/ {print $3}')"
  done; done; done | awk -F'|' '$3 == "none" {none[$1, $2] = $4} {print $2 "|" $3 "|" $4 / none[$1, $2]}' | sort -t'|' -k1,1n -k2,2 -k3,3n |
    awk -F'|' '{k = $1 " clients, " $2; if (!(k in n)) order[++m] = k; r[k, ++n[k]] = $3}
      END {for (i = 1; i <= m; i++) {k = order[i]; printf "%-32s %.2f (%.2f to %.2f)\n", k, r[k, int((n[k] + 1) / 2)], r[k, 1], r[k, n[k]]}}'
  exit
fi

for round in $(seq "$rounds"); do
  for v in "${variants[@]}"; do
    run -c "SELECT cost.variant('$v')" -c "BEGIN" -c "SELECT cost.one(300)" -c "SELECT '1 row|$v', cost.one(1500)" -c ROLLBACK | grep row || true
  done
  for v in "${bulk[@]}"; do
    run -c "SELECT cost.variant('$v')" -c BEGIN -c "SELECT '100 rows|$v', cost.many(100, 40)" -c ROLLBACK -c BEGIN -c "SELECT '10000 rows|$v', cost.many(10000, 2)" -c ROLLBACK -c "VACUUM item" | grep row || true
  done
  run -c "TRUNCATE icache.outbox_0, icache.outbox_1"
done | sort -t'|' -k1,2 -k3n | awk -F'|' '{k = $1 "|" $2} !(k in least) {least[k] = $3; n++; order[n] = k}
  END {for (i = 1; i <= n; i++) printf "%-32s %10.1f µs\n", order[i], least[order[i]]}' | sort -t'|' -k1,1 -k2.31n
