#!/usr/bin/env bash
# Makes sure that what the tests need is on this machine: Postgres, Redis and,
# for the race detector, a C compiler. As root on Debian or Ubuntu it installs
# what is missing; elsewhere it says what to install.
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1; }
have_postgres() { # the places that package localserver looks in, in short
  have postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ||
    { have pg_config && [ -x "$(pg_config --bindir)/postgres" ]; } ||
    compgen -G '/opt/homebrew/opt/postgresql*/bin/postgres' >/dev/null ||
    compgen -G '/usr/local/opt/postgresql*/bin/postgres' >/dev/null
}
have_redis() { have redis-server || have valkey-server; }

if ! have go; then
  echo "setup: Go is not installed: see https://go.dev/doc/install" >&2
  exit 1
fi

missing=()
have_postgres || missing+=(postgresql)
have_redis || missing+=(redis-server)
have make || missing+=(make)
[ "$(uname -s)" != Linux ] || have gcc || have clang || missing+=(gcc libc6-dev)
if have apt-get && [ "$(id -u)" = 0 ]; then
  have pgbouncer || missing+=(pgbouncer) # elsewhere the tests of these are skipped
  have varnishd || missing+=(varnish varnish-modules)
  /usr/bin/python3 -c 'import django, django_redis, psycopg2' 2>/dev/null ||
    missing+=(python3-django python3-django-redis python3-psycopg2) # the same
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if have apt-get && [ "$(id -u)" = 0 ]; then
  echo "setup: installing ${missing[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # RUNLEVEL: install services, do not start them
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  retry=(-o Acquire::Retries=3)
  if ! { apt-get -q "${retry[@]}" update &&
    apt-get -q "${retry[@]}" install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
  fi
  exit 0
fi

# Tests can also use servers that are elsewhere: package servertest says how.
if [ -n "${ICACHE_TEST_POSTGRES_URL:-}" ] && [ -n "${ICACHE_TEST_REDIS_URL:-}" ]; then
  echo "setup: ${missing[*]} not installed: tests that break servers will be skipped" >&2
  exit 0
fi
if have docker && docker info >/dev/null 2>&1; then
  echo "setup: ${missing[*]} not installed: tests use Docker, and those that break servers will be skipped" >&2
  exit 0
fi
echo "setup: not installed: ${missing[*]}" >&2
if have apt-get; then
  echo "setup: try: sudo apt-get install ${missing[*]}" >&2
elif have brew; then
  echo "setup: try: brew install postgresql redis" >&2
elif have dnf; then
  echo "setup: try: sudo dnf install postgresql-server postgresql-contrib redis make gcc" >&2
fi
echo "setup: or start Docker, or set ICACHE_TEST_POSTGRES_URL and ICACHE_TEST_REDIS_URL (CONTRIBUTING.md)" >&2
exit 1
