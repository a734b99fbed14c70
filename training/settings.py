"""
What training sets: first what pre-training and fine-tuning share.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal


@dataclass
class LoopSettings:
    """What pre-training and fine-tuning both set."""

    data_dir: Path = Path("data/xcoax")
    """Folder with the shards."""
    out_dir: Path = Path("out/xcoax")
    """Folder for checkpoints, metrics.jsonl and loss.png."""

    BATCHES: ClassVar = "batches and length"
    batch_size: int = 16
    """Sequences per forward pass; where memory runs out, they are halved by themselves."""
    gradient_accumulation_steps: int = 1
    """Forward passes per update; under torchrun the processes share them."""
    max_iters: int = 1000
    """Optimiser updates in all, never micro-steps."""
    max_minutes: float | None = None
    """Minutes of training at most: whatever the machine, the rate has decayed by then. Equal runs are then no longer
    equal to the bit, because the clock decides."""

    RATE: ClassVar = "learning rate"
    learning_rate: float = 3e-4
    """Highest rate, reached after the warm-up. Muon learns best at several times AdamW's."""
    head_rate: float | None = None
    """Highest rate of the output layer and the norms; by default learning_rate. It rises and falls with the other."""
    embedding_rate: float | None = None
    """Highest rate of an embedding that is not the output layer, too; by default 50 times head_rate, since its weights
    begin 50 times as large."""
    min_lr: float = 3e-5
    """Rate at the end of the decay."""
    warmup_iters: int = 100
    """Updates over which the rate rises in a straight line."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """How the rate falls: in a cosine from the warm-up on, or (wsd) in a straight line at the end, after it has been
    stable: such a run can be made longer afterwards, by a higher --max-iters."""
    decay_fraction: float = 0.4
    """Share of the run over which wsd decays."""
    lr_decay_iters: int | None = None
    """Update at which the decay ends; by default max_iters."""

    OPTIMIZER: ClassVar = "optimiser"
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: orthogonalised momentum for the hidden matrices, AdamW for the rest."""
    weight_decay: float = 0.1
    """Decay of matrices; the norms' scales have none."""
    beta1: float = 0.9
    """AdamW: memory of the gradient."""
    beta2: float = 0.95
    """AdamW: memory of its square. The more tokens an update has, the shorter: 0.95 suits hundreds of thousands, 0.99
    thousands."""
    momentum: float = 0.95
    """Muon: memory of the gradient."""
    grad_clip: float = 1.0
    """Largest norm of an update's gradient; 0 switches clipping off."""
    reset_optimizer: bool = False
    """Go on with the weights alone, where the optimiser's memory in last_checkpoint.pt is another optimiser's."""

    SAVING: ClassVar = "evaluation and saving"
    eval_interval: int = 250
    """Updates between evaluations; each prints the losses and a sample."""
    eval_tokens: int = 327_680
    """Validation tokens per evaluation, always the same ones, whatever the batch size."""
    save_interval: int = 250
    """Updates between writes of last_checkpoint.pt."""
    overwrite: bool = False
    """Throw away the run that the output folder holds and start anew; otherwise it goes on from last_checkpoint.pt."""

    MACHINE: ClassVar = "machine"
    seed: int = 1
    """Seed of the first weights, of dropout, and of the order of the data."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: str = "auto"
    """auto, bfloat16, float32: what the model computes in; weights stay float32. A run keeps what auto took first."""
    threads: int | None = None
    """Threads of the CPU; by default one for each core, or what OMP_NUM_THREADS says."""
    activation_checkpointing: bool = False
    """Compute each block's activations again in the backward pass instead of keeping them: a third more work, a
    fraction of the memory."""
    compile: bool = True
    """Compile the model where that works (CUDA with Triton, Linux with g++); elsewhere say so and go on without."""
    wandb: bool = False
    """Log to Weights & Biases as well (WANDB_MODE=offline works)."""

    def __post_init__(self):
        for name, (suits, expected) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not suits(value):  # NaN suits nothing
                raise ValueError(f"{name} is {value}; it must be {expected}")
        if self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr {self.min_lr} is above learning_rate {self.learning_rate}; lower it too")


@dataclass
class TrainSettings(LoopSettings):
    """What pre-training sets besides: the model's shape. Fine-tuning takes it from the checkpoint."""

    MODEL: ClassVar = "model"
    init_from: Path | None = None
    """Checkpoint, or folder of export_xcoax.py for transformers, to begin from instead of random weights; the shape is
    then its own."""
    n_layer: int = 12
    """Transformer blocks."""
    n_head: int = 16
    """Attention heads per block."""
    n_embd: int = 1024
    """Width of the model."""
    block_size: int = 1024
    """Tokens that the model sees at once."""
    dropout: float = 0.0
    """Share of activations dropped in training; 0.1 helps when a small corpus is read many times."""
    tied: bool = True
    """Let the output layer share the embedding's weights: a smaller model, which learns more slowly."""

    @property
    def shape(self):
        """What GPTConfig takes besides the vocabulary's size."""
        return {name: getattr(self, name) for name in SHAPE}


SHAPE = ("n_layer", "n_head", "n_embd", "block_size", "dropout", "tied")
MOST_SEQUENCES = 2**20
_BOUNDS = {  # what a value must be, and in words
    **dict.fromkeys(("batch_size", "gradient_accumulation_steps"),
                    (lambda v: 1 <= v <= MOST_SEQUENCES, f"from 1 to {MOST_SEQUENCES:,}")),
    **dict.fromkeys(("max_iters", "eval_interval", "eval_tokens", "save_interval", "lr_decay_iters"),
                    (lambda v: 1 <= v < 2**40, "at least 1 and below 2**40")),
    **dict.fromkeys(("max_minutes", "learning_rate", "head_rate", "embedding_rate"),
                    (lambda v: 0 < v < math.inf, "above 0 and finite")),
    **dict.fromkeys(("min_lr", "weight_decay", "grad_clip"), (lambda v: 0 <= v < math.inf, "at least 0 and finite")),
    **dict.fromkeys(("beta1", "beta2", "momentum"), (lambda v: 0 <= v < 1, "at least 0 and below 1")),
    "decay_fraction": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
    "warmup_iters": (lambda v: 0 <= v < 2**40, "at least 0 and below 2**40"),
    "threads": (lambda v: 1 <= v <= 1024, "from 1 to 1,024"),
    "seed": (lambda v: 0 <= v < 2**40, "at least 0 and below 2**40"),
}
