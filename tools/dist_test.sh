#!/usr/bin/env bash
# Evaluate a checkpoint on several GPUs (or, without any, in several processes on the CPU), with torchrun.
set -euo pipefail

if [ $# -lt 3 ]; then
    cat >&2 <<USAGE
usage: $0 CONFIG CHECKPOINT GPUS [options of test.py]
    $0 configs/cls/my_config.py work_dirs/my_config/epoch_100.pth 8 --out predictions.pkl
On several machines, call it on each, with the same NNODES, MASTER_ADDR and PORT, and its own NODE_RANK (0, 1, ...).
PYTHON selects the interpreter.
USAGE
    exit 2
fi

exec bash "$(dirname "${BASH_SOURCE[0]}")/_torchrun.sh" test.py "$3" "$1" "$2" --launcher pytorch "${@:4}"
