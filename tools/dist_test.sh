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
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
if ! [[ $GPUS =~ ^[1-9][0-9]*$ ]]; then
    echo "error: GPUS must be a whole number >= 1, got $GPUS" >&2
    exit 2
fi
PYTHON=${PYTHON:-python}
NNODES=${NNODES:-1}
if [ "$NNODES" = 1 ] && [ -z "${PORT:-}" ]; then # any free one, so that several runs fit on one machine
    PORT=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
fi

exec "$PYTHON" -m torch.distributed.run \
    --nnodes="$NNODES" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$GPUS" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "${BASH_SOURCE[0]}")/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "${@:4}"
