"""From logits to texts: every knob, the choice of an id, the engine, and how likely a text is."""

from sampling.engine import generate, generate_batch
from sampling.likelihood import log_probs, token_log_probs

__all__ = ["generate", "generate_batch", "log_probs", "token_log_probs"]
