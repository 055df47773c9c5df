#!/usr/bin/env bash
# Train on a cluster that is run by Slurm.
set -euo pipefail

if [ $# -lt 3 ]; then
    cat >&2 <<USAGE
usage: $0 PARTITION JOB_NAME CONFIG [WORK_DIR] [options of train.py]
    GPUS=16 $0 gpu coma configs/pretrain/coma_dyvit-b_in1k.py
GPUS (8) is the number of all GPUs, GPUS_PER_NODE (8) that of one machine, CPUS_PER_TASK (5) is per GPU, SRUN_ARGS are
further arguments of srun. PYTHON selects the interpreter.
USAGE
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
shift 3
WORK_DIR=()
if [ $# -gt 0 ] && [[ $1 != -* ]]; then
    WORK_DIR=(--work-dir "$1")
    shift
fi
GPUS=${GPUS:-8}
for NUMBER in "$GPUS" "${GPUS_PER_NODE:-1}" "${CPUS_PER_TASK:-1}"; do
    if ! [[ $NUMBER =~ ^[1-9][0-9]*$ ]]; then
        echo "error: GPUS, GPUS_PER_NODE and CPUS_PER_TASK must be whole numbers >= 1, got $NUMBER" >&2
        exit 2
    fi
done
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}

# SRUN_ARGS is several words, so it stays without quotes.
# shellcheck disable=SC2086
exec srun --partition="$PARTITION" --job-name="$JOB_NAME" --gres=gpu:"$GPUS_PER_NODE" \
    --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "${BASH_SOURCE[0]}")/train.py" "$CONFIG" \
    "${WORK_DIR[@]}" --launcher slurm "$@"
