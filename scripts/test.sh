#!/bin/sh
# Every test, then stop the stacks that the tests started. Ends with pytest's summary.
# Arguments go to pytest.
set -u
cd "$(dirname "$0")/.." || exit 2
.venv/bin/python -m pytest -n "${TEST_WORKERS:-2}" --dist loadgroup --durations=15 "$@"
code=$?
for stack in .stack/test*/; do
    [ -d "$stack" ] || continue
    .venv/bin/python -m local_stack down --quiet --stack "$(basename "$stack")" || code=1
done
exit $code
