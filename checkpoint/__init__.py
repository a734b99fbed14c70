"""A trained model as a file: saving, loading, opening, going on."""

from checkpoint.background import Writer
from checkpoint.file import load, save
from checkpoint.opening import OpenModel, identity, open_model, open_tokenizer
from checkpoint.resuming import resume

__all__ = ["OpenModel", "Writer", "identity", "load", "open_model", "open_tokenizer", "resume", "save"]
