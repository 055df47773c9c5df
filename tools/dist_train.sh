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
CONFIG=$1
GPUS=$2
if ! [[ $GPUS =~ ^[1-9][0-9]*$ ]]; then
    echo "error: GPUS must be a whole number >= 1, got $GPUS" >&2
    exit 2
fi
PYTHON=${PYTHON:-python}
NNODES=${NNODES:-1}
if [ "$NNODES" = 1 ] && [ -z "${PORT:-}" ]; then # any free one, so that several runs fit on one machine
    PORT=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
fi

# After Ctrl-C or SIGTERM the ranks end two steps and save. Without this, torchrun kills them after 30 seconds.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-120}
exec "$PYTHON" -m torch.distributed.run \
    --nnodes="$NNODES" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$GPUS" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "${BASH_SOURCE[0]}")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
