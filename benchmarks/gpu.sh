#!/usr/bin/env bash
# Measures training, decoding and loading at 3B size on this machine's accelerator.
#
#   bash benchmarks/gpu.sh [--remat=dots] [--attention=auto] [--rounds=2] [--repetitions=5]
#   SIZE=small bash benchmarks/gpu.sh      on a CPU, only to see that it works
#
# EXTRA=cuda (the default) or tpu is installed into .venv unless JAX sees an accelerator already.
# Peft and transformers take part if torch with CUDA is in .venv: pip install torch peft.
# See benchmarks/gpu.py for what the rows are.
set -euo pipefail
cd "$(dirname "$0")/.."

size=${SIZE:-3B}
python=.venv/bin/python
[ -x "$python" ] || python3 -m venv .venv
sees() { "$python" -c "import lorajax, jax; exit(jax.default_backend() == 'cpu')" 2>/dev/null; }
if [ "$size" != small ] && ! sees; then
  .venv/bin/pip install --quiet -e ".[${EXTRA:-cuda}]"
  sees || { echo "benchmarks/gpu.sh: JAX sees no accelerator; SIZE=small runs on a CPU" >&2; exit 1; }
fi
exec "$python" -m benchmarks.gpu --size="$size" "$@"
