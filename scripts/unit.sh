#!/bin/sh
# Tests that need no server. Arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
# shellcheck disable=SC2046 # a list of folders without spaces
exec .venv/bin/python -m pytest -q -p no:cacheprovider \
    tests/architecture $(find libs services audit external deploy -type d -path '*/tests/unit' -not -path '*/.venv/*' | sort) \
    "$@"
