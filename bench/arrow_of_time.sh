#!/usr/bin/env bash
# Does a language model need more to learn text backward than forward? Trains both on the same documents with the same
# settings, for several seeds, and compares them on held-out text, word by word: evaluate_xcoax.py's report.
#
#     bash bench/arrow_of_time.sh 'texts/*.parquet'                          # config/small.toml, seeds 1, 2, 3
#     SEEDS="1 2" OUT=out/arrow2 bash bench/arrow_of_time.sh tales --max-iters 300
#     CONFIG=config/tales.toml PREPROCESS="--vocab-size 4096 --num-chunks 2" bash bench/arrow_of_time.sh tales
#     FORWARD="--vocab-size 8520" bash bench/arrow_of_time.sh 'texts/*.parquet'
#
# FORWARD are flags of the preprocessing forward alone: the tokenizers are learned apart, and by the number of pieces
# one comes to as many tokens as the other. Flags after the corpus go to every training. Run again, it goes on where it
# was stopped; what is done is not done again.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || { echo "Name a corpus: tales, or paths as preprocess_xcoax.py takes them" >&2; exit 2; }
dataset=$1; shift
python=${PYTHON:-.venv/bin/python} out=${OUT:-out/arrow} seeds=${SEEDS:-1 2 3} config=${CONFIG:-config/small.toml}

preprocess() {
    "$python" preprocess_xcoax.py --dataset "$dataset" --direction "$1" --data-dir "$out/data/$1" ${PREPROCESS:-} "${@:2}"
}
preprocess reverse
preprocess forward ${FORWARD:-}

checkpoints=()
for seed in $seeds; do
    for direction in forward reverse; do  # in turns, so that what else the machine does meets both
        run="$out/${direction}_$seed"
        checkpoints+=("$run/best_checkpoint.pt")
        [ -f "$run/done" ] && continue
        "$python" train_xcoax.py "$config" --data-dir "$out/data/$direction" --out-dir "$run" --seed "$seed" "$@"
        touch "$run/done"
    done
done

"$python" evaluate_xcoax.py --model-path "${checkpoints[@]}" --data-dir "$out/data/reverse" --out-dir "$out" \
    --num-samples 0 ${EVALUATE:-}
