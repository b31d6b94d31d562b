#!/usr/bin/env bash
# Compares doorbell variants in one run, interleaved: every variant is bracketed by runs without a trigger.
#   bench/doorbell/run.sh [clients] [seconds] [rounds]      libpq's PG* variables name the server
set -euo pipefail
cd "$(dirname "$0")"
clients=${1:-64} seconds=${2:-5} rounds=${3:-5}
psql -qX -v ON_ERROR_STOP=1 -f setup.sql >/dev/null
cat >/tmp/bell.$$.sql <<'SQL'
\set id random(1, 100000)
UPDATE item SET qty = qty + 1 WHERE id = :id;
SQL
trap 'rm -f /tmp/bell.$$.sql' EXIT
tps() { pgbench -n -M prepared -c "$clients" -j 2 -T "$seconds" -f /tmp/bell.$$.sql 2>/dev/null | awk '/^tps/ {printf "%.0f", $3}'; }
for round in $(seq "$rounds"); do
  for v in outbox advisory word notify; do
    psql -qXc "SELECT bell.variant('none')" >/dev/null; a=$(tps)
    psql -qXc "SELECT bell.variant('$v')" >/dev/null; t=$(tps)
    psql -qXc "SELECT bell.variant('none')" >/dev/null; b=$(tps)
    echo "$v $t $(awk -v t="$t" -v a="$a" -v b="$b" 'BEGIN {printf "%.3f", 2*t/(a+b)}')"
  done
done | sort | awk '{n[$1]++; tps[$1,n[$1]]=$2; r[$1,n[$1]]=$3}
  END {for (v in n) {m=n[v]; for(i=1;i<=m;i++){x[i]=r[v,i]; y[i]=tps[v,i]} 
    for(i=1;i<=m;i++)for(j=i+1;j<=m;j++){if(x[j]<x[i]){s=x[i];x[i]=x[j];x[j]=s} if(y[j]<y[i]){s=y[i];y[i]=y[j];y[j]=s}}
    printf "%-9s ratio to no trigger: median %.2f (min %.2f, max %.2f), median tps %d\n", v, x[int((m+1)/2)], x[1], x[m], y[int((m+1)/2)]}}' | sort
