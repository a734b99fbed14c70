#!/usr/bin/env bash
# Installs what the tests need into .venv, checks the code's form and runs the tests.
set -euo pipefail
cd "$(dirname "$0")"
. ./venv.sh requirements-dev.txt
[ $# -gt 0 ] || .venv/bin/python -m ruff check
exec .venv/bin/python -m pytest "$@"
