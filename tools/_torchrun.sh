#!/usr/bin/env bash
# Start a tool in several processes: _torchrun.sh TOOL GPUS [arguments of the tool].
set -euo pipefail

TOOL=$1
GPUS=$2
NNODES=${NNODES:-1}
for NAME in GPUS NNODES; do
    if ! [[ ${!NAME} =~ ^[1-9][0-9]*$ ]]; then
        echo "error: $NAME must be a whole number >= 1, got ${!NAME}" >&2
        exit 2
    fi
done
PYTHON=${PYTHON:-python}
if [ "$NNODES" = 1 ]; then
    NODE_RANK=0
    MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
    # any free one, so that several runs fit on one machine
    PORT=${PORT:-$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')}
else
    PORT=${PORT:-29500}
    for NAME in NODE_RANK MASTER_ADDR; do
        if [ -z "${!NAME:-}" ]; then
            echo "error: NNODES is $NNODES, but $NAME is not set: NNODES=$NNODES NODE_RANK=0 MASTER_ADDR=10.0.0.1" >&2
            exit 2
        fi
    done
    echo "waiting at $MASTER_ADDR:$PORT for all $NNODES machines; this one has NODE_RANK=$NODE_RANK" >&2
fi

exec "$PYTHON" -m torch.distributed.run \
    --nnodes="$NNODES" --node_rank="$NODE_RANK" --nproc_per_node="$GPUS" \
    --master_addr="$MASTER_ADDR" --master_port="$PORT" \
    "$(dirname "${BASH_SOURCE[0]}")/$TOOL" "${@:3}"
