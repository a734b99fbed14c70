#!/usr/bin/env bash
# Installs what the tests need into .venv and runs them.
set -euo pipefail
cd "$(dirname "$0")"
. ./venv.sh requirements-dev.txt
exec .venv/bin/python -m pytest "$@"
