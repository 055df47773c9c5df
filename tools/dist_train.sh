#!/usr/bin/env bash
# Train on several GPUs (or, without any, in several processes on the CPU), with torchrun.
set -euo pipefail

if [ $# -lt 2 ]; then
    cat >&2 <<USAGE
usage: $0 CONFIG GPUS [options of train.py]
    $0 configs/pretrain/coma_dyvit-b_in1k.py 8 --amp
On several machines, call it on each, with the same NNODES, MASTER_ADDR and PORT, and its own NODE_RANK (0, 1, ...).
PYTHON selects the interpreter.
USAGE
    exit 2
fi

# After Ctrl-C or SIGTERM the ranks end two steps and save. Without this, torchrun kills them after 30 seconds.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-120}
exec bash "$(dirname "${BASH_SOURCE[0]}")/_torchrun.sh" train.py "$2" "$1" --launcher pytorch "${@:3}"
