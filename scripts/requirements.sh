#!/bin/sh
# Compile requirements/*.in: every package pinned with hashes, for every platform and Python from
# 3.11 on, without a word about which package index they came from.
set -eu
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "✗ uv is needed: https://docs.astral.sh/uv/" >&2; exit 2; }
for name in base dev; do
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --output-file "requirements/$name.txt" "requirements/$name.in"
done
if grep -nE '://|^--' requirements/*.txt; then
    echo "✗ a compiled file names a host" >&2
    exit 1
fi
