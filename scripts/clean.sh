#!/bin/sh
# Stop this clone's stacks, then remove what was generated.
set -eu
cd "$(dirname "$0")/.."
if [ -x .venv/bin/python ]; then
    for stack in .stack/*/; do
        [ -d "$stack" ] || continue
        .venv/bin/python -m local_stack down --stack "$(basename "$stack")"
    done
fi
rm -rf .stack .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
rm -rf --one-file-system .compat
find . -name __pycache__ -type d -prune -exec rm -rf {} +
