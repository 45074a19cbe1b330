#!/usr/bin/env bash
# Runs one flagfile on a TPU VM, from making the VM to deleting it.
#
#   bash launch/tpu_vm.sh NAME create install run fetch delete [--flag=value ...]
#   bash launch/tpu_vm.sh NAME [--flag=value ...]
#
# NAME is a file launch/NAME.flags. The words say what to do, in that order:
#   create   makes the VM, and the disk for the work directory if it is not there yet
#   install  sends this tree, as committed, to all workers and installs it there
#   run      runs; makes the VM again after a preemption and goes on from what is stored
#   fetch    copies the work directory to ./runs
#   delete   deletes the VM; the disk stays
# Without any it is typed on a TPU VM itself, where it installs and runs.
#
# Variables: TPU (name of the VM), ZONE, PROJECT, TYPE and VERSION (chips and runtime image),
# SPOT=1 for a VM that may be preempted, DISK (name of a persistent disk) or NFS (address:/share);
# without one of the two a preemption takes the work directory with it. A slice of several hosts
# needs NFS: its workers divide the trainings and the main table among themselves, each on its own
# chips, and none talks to another. DRY_RUN=1 prints what it would do. Needs gcloud, logged in. No
# TPU VM has been made with it yet.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?usage: launch/tpu_vm.sh NAME [create|install|run|fetch|delete ...] [--flag=value ...]}
shift

words=()
flags=()
for word in "$@"; do
  case $word in
    -*) flags+=("$word") ;;
    create | install | run | fetch | delete) words+=("$word") ;;
    *)
      echo "tpu_vm.sh: $word: expected create, install, run, fetch, delete or --flag=value" >&2
      exit 2
      ;;
  esac
done

case $name in
  tpu_v5e32) chips=v5litepod-32 image=v2-alpha-tpuv5-lite workers=8 ;;
  tpu_v6e8) chips=v6e-8 image=v2-alpha-tpuv6e workers=1 ;;
  *) chips=v5litepod-8 image=v2-alpha-tpuv5-lite workers=1 ;;
esac
TPU=${TPU:-lorajax}
ZONE=${ZONE:-us-west4-a}
TYPE=${TYPE:-$chips}
VERSION=${VERSION:-$image}
WORKERS=${WORKERS:-$workers}
mount=/mnt/lorajax # of the disk or the share, on the VM
place=(--zone="$ZONE" ${PROJECT:+--project=$PROJECT})

act() {
  if [ -n "${DRY_RUN:-}" ]; then echo "$*"; else "$@"; fi
}

# Runs a command line on a worker or on all: on WORKER|all COMMAND
on() {
  act gcloud compute tpus tpu-vm ssh "$TPU" "${place[@]}" --worker="$1" --command="$2" \
    --ssh-flag=-oServerAliveInterval=30
}

create() {
  local options=(--accelerator-type="$TYPE" --version="$VERSION")
  if [ -n "${SPOT:-}" ]; then
    options+=(--spot)
  fi
  if [ -n "${DISK:-}" ]; then
    gcloud compute disks describe "$DISK" "${place[@]}" >/dev/null 2>&1 ||
      act gcloud compute disks create "$DISK" "${place[@]}" --size="${DISK_SIZE:-100GB}"
    options+=(--data-disk="source=projects/${PROJECT:?}/zones/$ZONE/disks/$DISK,mode=read-write")
  fi
  act gcloud compute tpus tpu-vm create "$TPU" "${place[@]}" "${options[@]}"
}

# What a worker does before its first run, as a command line.
setup() {
  local device=/dev/disk/by-id/google-persistent-disk-1
  echo "set -e; mkdir -p lorajax; tar -xzf lorajax.tar.gz -C lorajax; sudo mkdir -p $mount"
  if [ -n "${DISK:-}" ]; then
    echo "mountpoint -q $mount || { sudo blkid $device || sudo mkfs.ext4 -q $device;"
    echo "sudo mount $device $mount; }"
  elif [ -n "${NFS:-}" ]; then
    echo "sudo apt-get install -y -q nfs-common; mountpoint -q $mount || sudo mount $NFS $mount"
  fi
  echo "sudo chmod a+rwx $mount; bash lorajax/launch/environment.sh tpu"
}

install() {
  local archive
  archive=$(mktemp)
  act git archive --format=tar.gz --output="$archive" HEAD
  act gcloud compute tpus tpu-vm scp "$archive" "$TPU:lorajax.tar.gz" "${place[@]}" --worker=all
  rm -f "$archive"
  on all "$(setup)"
}

# The command line of some stages on a worker.
stages() {
  printf 'cd lorajax && exec .venv/bin/python -m lorajax.launch run --flagfile=launch/%s.flags' \
    "$name"
  printf ' --workdir=%s' "$mount/runs/$name"
  if [ ${#flags[@]} -gt 0 ]; then
    printf ' %q' "${flags[@]}"
  fi
  if [ -n "${1:-}" ]; then
    printf ' --stages=%s' "$1"
  fi
}

# What a worker of several sets to have its own four chips to itself; without it, it would wait
# for the others.
alone() {
  echo "export TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1 TPU_WORKER_ID=0"
  echo "export TPU_VISIBLE_DEVICES=0,1,2,3 TPU_WORKER_HOSTNAMES=localhost"
}

# The same for the share of every worker.
divided() {
  local index=http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number
  echo "shard=\$(curl -sf -H Metadata-Flavor:Google $index);"
  alone
  echo "$(stages "$1") --num_shards=$WORKERS --shard_index=\$shard"
}

once() {
  if [ "$WORKERS" -eq 1 ]; then
    on 0 "$(stages)"
    return
  fi
  on 0 "$(alone; stages prepare)" && on all "$(divided train)" && on 0 "$(alone; stages map)" &&
    on all "$(divided evaluate)" && on 0 "$(alone; stages evaluate,report)"
}

state() {
  gcloud compute tpus tpu-vm describe "$TPU" "${place[@]}" --format='value(state)' 2>/dev/null ||
    echo NONE
}

run() {
  local status tries=0
  if [ "$WORKERS" -gt 1 ] && [ -z "${NFS:-}" ]; then
    echo "tpu_vm.sh: NFS: is missing; $WORKERS workers need a work directory that all see" >&2
    exit 2
  fi
  while true; do
    status=0
    once || status=$?
    if [ "$status" -eq 0 ]; then
      return
    fi
    if [ "$(state)" != READY ]; then # preempted, or gone
      act gcloud compute tpus tpu-vm delete "$TPU" "${place[@]}" --quiet || true
      until create; do sleep "${PAUSE:-60}"; done
      install
      tries=0
    elif [ "$status" -eq 2 ] || [ "$((tries += 1))" -gt 3 ]; then
      return "$status" # bad input, or what will not go away
    else
      sleep "${PAUSE:-60}"
    fi
  done
}

fetch() {
  act mkdir -p runs
  act gcloud compute tpus tpu-vm scp --recurse "$TPU:$mount/runs/$name" runs "${place[@]}" --worker=0
}

delete() {
  act gcloud compute tpus tpu-vm delete "$TPU" "${place[@]}" --quiet
}

if [ ${#words[@]} -eq 0 ]; then
  bash launch/environment.sh tpu
  act exec .venv/bin/python -m lorajax.launch run --flagfile="launch/$name.flags" "${flags[@]}"
  exit
fi
for word in "${words[@]}"; do
  "$word"
done
