#!/usr/bin/env bash
# A run on Kubernetes: fills in launch/jobset.yaml and hands it to kubectl.
#
#   bash launch/jobset.sh NAME --num_shards=8 --workdir=/runs/round4 [--flag=value ...]
#
# NAME is a file launch/NAME.flags of the image; pods see the claim as /runs. Variables: IMAGE (made
# from the Dockerfile), CLAIM (runs), JOBSET (name of the JobSet, lorajax). DRY_RUN=1 prints what it
# would hand over.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:?usage: launch/jobset.sh NAME --num_shards=N [--flag=value ...]}
shift

shards=1
flags="\"--flagfile=launch/$name.flags\""
for flag in "$@"; do
  case $flag in
    --num_shards=*) shards=${flag#*=} ;;
    *\"* | *\\*)
      echo "jobset.sh: $flag: expected no quotes and no backslashes" >&2
      exit 2
      ;;
    *) flags+=", \"$flag\"" ;;
  esac
done

text=$(<launch/jobset.yaml)
text=${text//IMAGE/"${IMAGE:?is missing; build it from the Dockerfile and push it}"}
text=${text//CLAIM/"${CLAIM:-runs}"}
text=${text//SHARDS/"$shards"}
text=${text//name: NAME/"name: ${JOBSET:-lorajax}"}
text=${text//FLAGS/"$flags"}
if [ -n "${DRY_RUN:-}" ]; then
  echo "$text"
else
  kubectl apply -f - <<<"$text"
fi
