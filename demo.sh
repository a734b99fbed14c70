#!/usr/bin/env bash
# From nothing to a model that writes backwards, on two CPU cores within ten minutes:
# installs into .venv, tells itself a corpus of tales, trains on it for some minutes, and writes three tales.
set -euo pipefail
cd "$(dirname "$0")"
. ./venv.sh requirements.txt

echo; echo "1. The corpus: tales of a small world, reversed and cut into tokens"
.venv/bin/python preprocess_xcoax.py --dataset tales --num-chunks 4 --vocab-size 4096 --data-dir data/tales

echo; echo "2. Training: four and a half minutes"
.venv/bin/python train_xcoax.py config/tales.toml

echo; echo "3. Three endings, and what the model writes before them"
.venv/bin/python sample_xcoax.py --model-path out/tales/best_checkpoint.pt --seed 1 <<'ENDINGS'
There it was, just where she had left it. "Thinking is quicker than running," said her grandmother.
Nobody ever laughed at the machine again.
"Next time," she said, "I shall keep my promise."
ENDINGS

echo "Now write an ending of your own:"
echo "    .venv/bin/python sample_xcoax.py --model-path out/tales/best_checkpoint.pt"
