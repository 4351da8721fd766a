#!/bin/sh
# Format, lint, types (one mypy run a member), import contracts, unit tests. Goes through all of
# them and says at the end what failed. Arguments: the members' packages.
set -u
cd "$(dirname "$0")/.." || exit 2
failed=""
run() {
    name=$1
    shift
    printf '── %s\n' "$name"
    "$@" || failed="$failed $name"
}
run format .venv/bin/ruff format --check --quiet .
run lint .venv/bin/ruff check --quiet .
for member in "$@"; do
    run "types:$member" .venv/bin/mypy --no-error-summary -p "$member"
done
run imports .venv/bin/lint-imports --no-logo
run unit sh scripts/unit.sh
if [ -n "$failed" ]; then
    printf '✗ failed:%s\n' "$failed"
    exit 1
fi
printf '✓ all checks passed\n'
