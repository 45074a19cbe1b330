#!/usr/bin/env bash
# Installs lorajax with CUDA into .venv and runs one flagfile on this machine.
#
#   bash launch/gpu.sh NAME [--flag=value ...]
#   bash launch/gpu.sh NAME --num_shards=8 [--flag=value ...]
#
# NAME is a file launch/NAME.flags. With --num_shards=N the first N GPUs divide the trainings and
# the main table among themselves, one process each, and none talks to another; one process does
# what comes before, between and after. DRY_RUN=1 prints what it would do.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?usage: launch/gpu.sh NAME [--flag=value ...]; NAME is a file launch/NAME.flags}
shift

shards=1
flags=(--flagfile="launch/$name.flags")
for flag in "$@"; do
  case $flag in
    --num_shards=*) shards=${flag#*=} ;;
    *) flags+=("$flag") ;;
  esac
done

act() {
  if [ -n "${DRY_RUN:-}" ]; then echo "$*"; else "$@"; fi
}

stage() {
  act .venv/bin/python -m lorajax.launch run "${flags[@]}" --stages="$1"
}

# Does a stage with one process for each GPU; fails with the status of one that did.
divided() {
  local shard status=0 processes=()
  for ((shard = 0; shard < shards; shard++)); do
    act env CUDA_VISIBLE_DEVICES="$shard" .venv/bin/python -m lorajax.launch run "${flags[@]}" \
      --stages="$1" --num_shards="$shards" --shard_index="$shard" &
    processes+=($!)
  done
  trap 'kill -TERM "${processes[@]}" 2>/dev/null || true' TERM INT
  for process in "${processes[@]}"; do
    # A trapped signal ends the wait, not the process.
    while wait "$process" || status=$?; kill -0 "$process" 2>/dev/null; do :; done
  done
  trap - TERM INT
  return "$status"
}

bash launch/environment.sh cuda
if [ "$shards" -eq 1 ]; then
  act exec .venv/bin/python -m lorajax.launch run "${flags[@]}"
  exit
fi
stage prepare
divided train
stage map
divided evaluate
stage evaluate,report
