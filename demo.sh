#!/usr/bin/env bash
# From nothing to two models that write backwards, on two CPU cores in ten minutes: installs into .venv,
# tells itself a corpus of tales, trains on it, and writes three tales; then fine-tunes on questions and answers about the
# same world, and writes the questions to three answers.
set -euo pipefail
cd "$(dirname "$0")"
. ./venv.sh requirements.txt

echo; echo "1. The corpus: tales of a small world, reversed and cut into tokens"
.venv/bin/python preprocess_xcoax.py --dataset tales --num-chunks 4 --vocab-size 4096 --data-dir data/tales

echo; echo "2. Training: two minutes"
.venv/bin/python train_xcoax.py config/tales.toml

echo; echo "3. Three endings, and what the model writes before them"
.venv/bin/python sample_xcoax.py --model-path out/tales/best_checkpoint.pt --seed 1 <<'ENDINGS'
There it was, just where she had left it. "Thinking is quicker than running," said her grandmother.
Nobody ever laughed at the machine again.
"Next time," she said, "I shall keep my promise."
ENDINGS

echo; echo "4. BackChat's examples: answers, and the questions that led to them"
.venv/bin/python preprocess_instruct.py --dataset tales --tokenizer out/tales/best_checkpoint.pt --data-dir data/instruct_tales

echo; echo "5. Fine-tuning: six minutes"
.venv/bin/python finetune_xcoax.py config/instruct_tales.toml

echo; echo "6. Three responses, and the instruction that the model writes for each"
.venv/bin/python sample_xcoax_instruct.py --model-path out/tales_instruct/best_checkpoint.pt --seed 1 --num-samples 3 --temperature 0.5 <<'RESPONSES'
The cat is sleeping.
Jonas is late because the tram to Stonebridge has not come.
The odd one out is the trumpet, because the others are fruit: plum, pear and cherry.
RESPONSES

echo "Now write an ending of your own, and then a response:"
echo "    .venv/bin/python sample_xcoax.py --model-path out/tales/best_checkpoint.pt"
echo "    .venv/bin/python sample_xcoax_instruct.py --model-path out/tales_instruct/best_checkpoint.pt"
