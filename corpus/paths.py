"""
Paths: which files --dataset names. Only real files, and each of them once, whatever links lead to it.
"""

import glob
import os
import stat
from pathlib import Path

SUFFIXES = (".parquet", ".jsonl", ".txt")
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
          stat.S_IFDIR: "a folder"}


def expand_paths(dataset, suffixes=SUFFIXES, names=("tales",)):
    """Files named by a comma-separated list of files, folders (searched through) and globs, in sorted order.

    Links are followed; a file that several paths lead to is taken once, a folder is entered once. suffixes are the
    kinds of file wanted, names what else --dataset takes. Raises FileNotFoundError, ValueError, or OSError where a
    folder cannot be read.
    """
    _check_name(dataset)
    files = {}  # by what they are on disk
    for item in str(dataset).split(","):
        item = os.path.expanduser(item.strip())
        if os.path.isdir(item):
            found = [path for path in _matches(os.path.join(glob.escape(item), "**", "*"), hidden=True)
                     if Path(path).suffix in suffixes]
        else:
            found = [item] if os.path.lexists(item) else _matches(item)
        found = [path for path in found if os.path.exists(path) and not os.path.isdir(path)]
        if not found:
            raise FileNotFoundError(
                f"--dataset {item}: no such file, and no {', '.join(suffixes)} in such a folder. It takes "
                f"{', '.join(names)}, or paths; with no network, try --dataset tales")
        for path in sorted(found):
            check_file(path)
            files.setdefault(_identity(path), path)
    unknown = [file for file in files.values() if Path(file).suffix not in suffixes]
    if unknown:
        raise ValueError(f"{unknown[0]} is of no known kind; known are {', '.join(suffixes)}")
    return list(files.values())


def check_file(path):
    """Raise ValueError unless path is a file that can be read twice and whose name can be written down, OSError where
    there is none.

    A pipe would be waited for, for ever the second time, and a device may have no end.
    """
    _check_name(path)
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind != stat.S_IFREG:
        raise ValueError(f"{path} is {_KINDS.get(kind, 'something else')}, not a file. Write what it holds to a file, "
                         "and name that")


def _check_name(path):
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"The name of {path} is not UTF-8, and names of files are written down with what is made of "
                         "them. Rename it") from None


def _identity(path):
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _matches(pattern, hidden=False):
    """Paths that a glob stands for, each folder beneath a ** entered once; hidden: ** enters .folders, too."""
    parts, found = list(Path(pattern).parts), [""]
    for number, part in enumerate(parts):
        if part == "**":
            found = list(_folders(found, hidden))
        if part != "**" or number == len(parts) - 1:
            wanted = "*" if part == "**" else part
            found = [path for folder in found
                     for path in glob.glob(os.path.join(glob.escape(folder), wanted), include_hidden=hidden)]
    return found


def _folders(tops, hidden):
    """The folders among tops and all beneath them, each once; those behind links last, so that paths without are
    preferred."""
    seen, waiting, links = set(), [folder for folder in reversed(tops) if os.path.isdir(folder or ".")], []
    while waiting or links:
        folder = (waiting or links).pop()
        identity = _identity(folder or ".")
        if identity in seen:
            continue
        seen.add(identity)
        yield folder
        inner = [os.path.join(folder, name) for name in sorted(os.listdir(folder or "."), reverse=True)
                 if hidden or not name.startswith(".")]
        for path in filter(os.path.isdir, inner):
            (links if os.path.islink(path) else waiting).append(path)
