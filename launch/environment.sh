#!/usr/bin/env bash
# Makes .venv, with Python 3.11 or later, and installs lorajax into it: environment.sh [cuda|tpu]
#
# DRY_RUN=1 prints what it would do.
set -euo pipefail
cd "$(dirname "$0")/.."
extra=${1:+[$1]}

act() {
  if [ -n "${DRY_RUN:-}" ]; then echo "$*"; else "$@"; fi
}

is_new_enough() {
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'
}

if [ ! -x .venv/bin/python ]; then
  if is_new_enough; then
    act python3 -m venv .venv
  else # images of TPU VMs bring Python 3.10; uv fetches another
    act python3 -m pip install --user --quiet uv
    act python3 -m uv venv --quiet --seed --python 3.12 .venv
  fi
fi
act .venv/bin/python -m pip install --quiet --editable ".$extra"
