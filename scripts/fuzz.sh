#!/usr/bin/env bash
# Runs every fuzz target of the given packages: fuzz.sh TIME PACKAGE...
set -euo pipefail
time=$1
shift
go list -f '{{.ImportPath}} {{.Dir}}' "$@" | while read -r package dir; do
  { grep -hoE '^func Fuzz\w+' "$dir"/*_test.go 2>/dev/null || true; } | sed 's/^func //' | while read -r target; do
    echo "$package $target"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" </dev/null
  done
done
