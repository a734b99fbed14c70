"""
A line of a file of pairs: a record as JSON, and behind its own fields what was added to them.
"""

import json
import math


def to_json(value, ascii=False):
    """Bytes of JSON; what JSON does not know (dates and bytes of a Parquet file, NaN) becomes a string."""
    try:
        text = json.dumps(value, ensure_ascii=ascii, default=str, allow_nan=False)
    except ValueError:
        text = json.dumps(_without_nan(value), ensure_ascii=ascii, default=str)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8
        return to_json(value, ascii=True)


def _without_nan(value):
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def free_name(name, record):
    """The name under which something is added: every field of the input is kept."""
    while name in record:
        name = f"new_{name}"
    return name


def line_of(record, added):
    return to_json({**record, **{free_name(name, record): value for name, value in added.items()}}) + b"\n"


def added_part(line, record):
    """What stands in line after the fields of record; None where line does not begin with them.

    A line cut short belongs to the record if it begins as one does; then nothing was added yet.
    """
    for head in (to_json(record)[:-1], to_json(record, ascii=True)[:-1]):
        n = min(len(head), len(line))
        if line[:n] == head[:n]:
            return line[len(head):].lstrip(b", ")
    return None


def goes_on_with(names, part, record):
    """Whether what was added begins with one of names, or, cut short, may have begun so."""
    begun = [to_json(free_name(name, record)) for name in names]
    return any(part[:len(name)] == name[:len(part)] for name in begun)


def is_error(line, record):
    """Whether a whole line that belongs to record says why it got nothing."""
    part = added_part(line, record)
    return part is not None and part.startswith(to_json(free_name("error", record)))


def error_of(line, record):
    """The text of such a line's error."""
    return json.loads(line)[free_name("error", record)]
