"""Token shards on disk: their format, their folder, and the windows that training reads."""

from shards.folder import read_split, split_of
from shards.format import SPLITS, Shard, read_shard, write_shard
from shards.manifest import fingerprint, read_manifest, totals, write_manifest
from shards.windows import Windows

__all__ = ["SPLITS", "Shard", "Windows", "fingerprint", "read_manifest", "read_shard", "read_split", "split_of",
           "totals", "write_manifest", "write_shard"]
