#!/usr/bin/env bash
# How fast this machine's GPU trains the full model: tokens per second, share of its peak, memory. The losses beside them
# are of the same updates: all but AdamW's should agree.
#
#     bash bench/gpu.sh                     # config/xcoax.toml on the embedded tales
#     DATA=data/xcoax bash bench/gpu.sh     # on shards of one's own
#     RUNS="eager compiled" bash bench/gpu.sh
#     bash bench/gpu.sh --device cpu --n-layer 2 --n-head 2 --n-embd 64 --block-size 64 --batch-size 4 --max-iters 20
#
# Flags go to every training, whose runs are in out/gpu/. A minute or two for each training on one H100 is expected, none
# was timed.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python} data=${DATA:-data/tales} out=${OUT:-out/gpu}
[ -f "$data/manifest.json" ] || "$python" preprocess_xcoax.py --dataset tales --num-chunks 4 --vocab-size 4096 --data-dir "$data"
gpus=$("$python" -c "import torch; print(torch.cuda.device_count())")

train() {  # train NAME LAUNCHER... -- FLAGS...: the last row of its metrics
    local name=$1; shift
    "$@" train_xcoax.py config/xcoax.toml --data-dir "$data" --out-dir "$out/$name" --overwrite --max-iters 40 \
        --eval-interval 1000 --eval-tokens 65536 --save-interval 1000 --warmup-iters 10 "${flags[@]}" > "$out/$name.log" 2>&1 \
        || { tail -20 "$out/$name.log"; return 1; }
    printf '%-24s' "$name"; grep tokens_per_second "$out/$name/metrics.jsonl" | tail -1
}

mkdir -p "$out"
given=("$@")
for run in ${RUNS:-eager compiled adamw checkpointing large_batches}; do
    case $run in
        eager) flags=(--no-compile) ;;
        compiled) flags=() ;;
        adamw) flags=(--optimizer adamw --head-rate off --learning-rate 3e-4 --min-lr 3e-5) ;;
        checkpointing) flags=(--activation-checkpointing) ;;
        large_batches) flags=(--batch-size 64 --gradient-accumulation-steps 4) ;;
        *) echo "RUNS: there is no $run" >&2; exit 2 ;;
    esac
    flags+=("${given[@]}"); train "$run" "$python"
done
if [ "$gpus" -gt 1 ]; then
    flags=("${given[@]}")  # as many as divide 16
    train all_gpus "$python" -m torch.distributed.run --standalone --nproc-per-node="$gpus"
fi
