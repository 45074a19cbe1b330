#!/usr/bin/env bash
# Installs lorajax with CUDA into .venv and runs one flagfile: gpu.sh NAME [--flag=value ...]
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?usage: launch/gpu.sh NAME [--flag=value ...]; NAME is a file launch/NAME.flags}
shift
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install --quiet --editable '.[cuda]'
exec .venv/bin/python -m lorajax.launch --flagfile="launch/$name.flags" "$@"
