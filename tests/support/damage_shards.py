"""Folders of shards that something has happened to: a bit, the end of a file, two files exchanged, a field changed."""

import copy
import json
import random

from shards.format import HEADER_WORDS
from shards.manifest import MANIFEST

HEADER_BYTES = 4 * HEADER_WORDS
VALUES = (None, True, False, 0, -1, 1, 2**31, 2**70, 1.5, float("nan"), float("inf"), "", "0", "../x.bin",
          "/etc/passwd", "train_000000.bin", "val_000000.bin", "tok9.model", "0" * 16, "0" * 64, "\ud800", [], [0],
          [[]], [-1, 0], {}, {"dataset": 5}, {"a": {}}, "instruct", "forward")


def damaged_folders(folder, seed):
    """Yield pairs (what is done, function that does it to a copy of folder), as often as damage of each sort makes
    sense; another seed draws other bits, places and values."""
    chance = random.Random(seed)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    shards = [split["file"] for chunk in manifest["chunks"] for split in chunk.values() if "file" in split]
    for name in shards:
        size = (folder / name).stat().st_size
        for bit in sorted({chance.randrange(8 * 64) for _ in range(5)}):  # words 0 to 15 are in use
            yield f"bit {bit} of the header of {name} flipped", flip(name, bit)
        for _ in range(3):
            bit = chance.randrange(8 * HEADER_BYTES, 8 * size)
            yield f"bit {bit} of {name}, in its ids, flipped", flip(name, bit)
        cut = chance.randrange(size)
        yield f"{name} cut to {cut} bytes", change(name, lambda data, cut=cut: data[:cut])
        kept = chance.randrange((size - HEADER_BYTES) // 2)
        yield f"{name} cut to {kept} ids, its header mended", change(name, mended(kept))
        yield f"{name} longer by an id", change(name, lambda data: data + b"\1\0")
        other = chance.choice([other for other in shards if other != name])
        yield f"{name} exchanged with {other}", exchange(name, other)
        yield f"{name} with the header of {other}", graft(name, other)
        yield f"{name} taken away", lambda copied, name=name: (copied / name).unlink()
    size = (folder / MANIFEST).stat().st_size
    for _ in range(20):
        bit = chance.randrange(8 * size)
        yield f"bit {bit} of the manifest flipped", flip(MANIFEST, bit)
    cut = chance.randrange(size)
    yield f"the manifest cut to {cut} bytes", change(MANIFEST, lambda data: data[:cut])
    for place in places(manifest):
        value = chance.choice(VALUES)
        yield f"{place} of the manifest is {value!r}", edit(place, value)
        if place != ("chunks", len(manifest["chunks"]) - 1):  # without its last chunk it is what a shorter run makes
            yield f"{place} of the manifest is gone", edit(place)


def flip(name, bit):
    def damage(data):
        data = bytearray(data)
        data[bit // 8] ^= 1 << bit % 8
        return bytes(data)

    return change(name, damage)


def change(name, damage):
    return lambda copied: (copied / name).write_bytes(damage((copied / name).read_bytes()))


def mended(kept):
    """Only so many ids, and a header that says so."""
    return lambda data: data[:8] + kept.to_bytes(4, "little") + data[12:HEADER_BYTES + 2 * kept]


def exchange(name, other):
    def damage(copied):
        one, two = (copied / name).read_bytes(), (copied / other).read_bytes()
        (copied / name).write_bytes(two)
        (copied / other).write_bytes(one)

    return damage


def graft(name, other):
    """The header of another shard, whose count of tokens is that of this one."""
    def damage(copied):
        data, header = (copied / name).read_bytes(), (copied / other).read_bytes()[:HEADER_BYTES]
        (copied / name).write_bytes(header[:8] + data[8:12] + header[12:] + data[HEADER_BYTES:])

    return damage


def places(value, place=()):
    """Every place in a JSON value, as the keys that lead there; without the root."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*place, key)
        yield from places(part, (*place, key))


def edit(place, *value):
    """The manifest with another value at a place, or none there."""
    def damage(copied):
        manifest = json.loads((copied / MANIFEST).read_text(encoding="utf-8"))
        inside = manifest
        for key in place[:-1]:
            inside = inside[key]
        if value:
            inside[place[-1]] = copy.deepcopy(value[0])
        else:
            del inside[place[-1]]
        (copied / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

    return damage
