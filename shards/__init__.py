"""Token shards on disk: their format, their folder, and the windows that training reads."""

from shards.folder import SPLITS, read_manifest, read_split, split_of, totals, write_manifest
from shards.format import Shard, read_shard, write_shard
from shards.windows import Windows

__all__ = ["SPLITS", "Shard", "Windows", "read_manifest", "read_shard", "read_split", "split_of", "totals",
           "write_manifest", "write_shard"]
