"""
The archive that torch.save writes: read only where it is whole, and never larger in memory than on the disk.

weights_only=True keeps a stranger's code from running. A small file could still ask for gigabytes: by a compressed
member, by bytearray(10**11), by a pickle that repeats itself. Such files are refused before they are unpickled. Every
byte is compared with the archive's own checksums, at which torch does not look.
"""

import errno
import os
import pickle
import pickletools
import zipfile

import torch

# What torch.save needs for tensors, dicts and bytes. weights_only=True would let through a good deal more.
_NEEDED = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict", "_codecs encode"}
# All but the tensors. The full model's takes 0.5 MB, nearly all of it the tokenizer, and 30,000 steps to unpickle.
_PICKLE_BYTES, _PICKLE_STEPS = 2**24, 10**6
_MOST_BYTES_OBJECTS = 16  # each may be as large as the pickle; a checkpoint holds one
_PIECE = 2**20  # bytes read at a time


class _Refused(Exception):
    """Whole, but not what this project writes."""

    CODE = "it holds more than tensors and plain values, and loading it could run a stranger's code"


def read(path, tensors=True):
    """The object that torch.save wrote, on the CPU.

    Without tensors theirs are not read before they are looked at: quick, for the other fields, which are checked either
    way. Raises ValueError for a file that is damaged or not to be trusted, OSError for one that cannot be read, and
    MemoryError for one that is too large, each naming the file.
    """
    size = None
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(4) not in (b"PK\3\4", b""):
                raise _Refused("it is no archive of tensors, and loading anything else could run a stranger's code")
            with zipfile.ZipFile(file) as archive:
                _check(archive, size, tensors)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=not tensors)
    except (_Refused, pickle.UnpicklingError) as error:
        why = error if isinstance(error, _Refused) else _Refused.CODE
        raise ValueError(f"{path} was not loaded: {why}. Take a checkpoint that this project wrote.") from error
    except Exception as error:  # by where the damage lies BadZipFile, RuntimeError, EOFError, KeyError …
        why = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
        if isinstance(error, MemoryError) or "llocate memory" in str(error):  # torch's allocator, or its mmap
            raise MemoryError(f"There is too little memory to load {path} ({size:,} bytes). End other programs, or "
                              "take a machine with more.") from error
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: an offset that is none
            raise OSError(f"{path} could not be read ({error.strerror}), which does not mean that it is damaged. See "
                          "to its rights and its disk.") from error
        raise ValueError(f"{path} is damaged or cut short ({size:,} bytes): {why}. Copy it again, or make it anew "
                         "(in training: --overwrite).") from error


def _check(archive, size, tensors):
    """Raise _Refused or what zipfile raises unless torch may load the archive, a file of so many bytes."""
    members = archive.infolist()
    folder, _, _ = members[0].filename.partition("/") if members else ("", "", "")
    names = {member.filename for member in members}
    if any(member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size
           for member in members):
        raise _Refused("it is compressed, as no checkpoint of this project is, and might fill the memory")
    if len(names) < len(members) or sum(member.file_size for member in members) > size:
        raise _Refused("its members lie upon one another")
    # Otherwise torch, which reads archives in its own way, might find other members than these.
    if archive.comment or min((member.header_offset for member in members), default=1) or any(
            not name.startswith(f"{folder}/") for name in names):
        raise _Refused("something else stands in its archive, or around it")
    for member in members:
        is_pickle = member.filename == f"{folder}/data.pkl"
        if is_pickle and member.file_size > _PICKLE_BYTES:
            raise _Refused(f"its pickle has {member.file_size:,} bytes; {_PICKLE_BYTES:,} are the most")
        if is_pickle or tensors or "/data/" not in member.filename:
            content = _whole(archive, member, is_pickle)
            if is_pickle:
                _check_pickle(content)


def _whole(archive, member, kept):
    """Read a member to its end, where zipfile compares the checksum; return its bytes if they are to be kept."""
    with archive.open(member) as file:
        if kept:
            return file.read()
        while file.read(_PIECE):
            pass


def _check_pickle(content):
    """Raise _Refused unless unpickling is short and calls nothing but what makes tensors, dicts and bytes.

    What is called can stand on the stack in two ways: by its name, or taken from the memo.
    """
    memo, called, bytes_objects = {}, None, 0
    for step, (opcode, value, _) in enumerate(pickletools.genops(content)):
        if step > _PICKLE_STEPS:
            raise _Refused(f"its pickle takes more than {_PICKLE_STEPS:,} steps")
        if "PUT" in opcode.name:
            memo[value] = called
            continue
        if called == "collections OrderedDict" and opcode.name != "EMPTY_TUPLE":
            raise _Refused("its pickle fills dicts in a way that torch.save does not")
        called = memo.get(value) if "GET" in opcode.name else None
        if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST"):
            called = value
            if value not in _NEEDED and not (
                    str(value).startswith("torch ") and value.endswith("Storage") and "Untyped" not in value):
                raise _Refused(f"{_Refused.CODE} ({value})")
        bytes_objects += called == "_codecs encode"
        if bytes_objects > _MOST_BYTES_OBJECTS:
            raise _Refused("its pickle makes more bytes than a checkpoint holds")
