#!/bin/sh
# Format, lints, types and tests of this package. The virtual environment is made by scripts/setup-test.sh; the hub is AGENT_HUB_BIN, or the debug build.
set -eu
cd "$(dirname "$0")"
.venv/bin/ruff format --quiet --check .
.venv/bin/ruff check --quiet .
.venv/bin/mypy --no-error-summary
.venv/bin/pytest "$@"
