"""
A file of responses becomes a file of pairs: records in, the same records with an instruction and its scores out.

Records are worked on in windows and written in their order when the window is whole; windows begin at fixed records. So
a run that was stopped reads over what is written, compares it with the input, and goes on; the file it ends with is the
same, byte for byte, as that of an unbroken run.
"""

import itertools
import json
import os
from pathlib import Path

from tqdm import tqdm

from backchat import records

WINDOW = 512  # records worked on and written together; what a kill can cost


def _json(value):
    """One line of JSON; what JSON does not know (dates and bytes of a Parquet file) becomes a string."""
    line = json.dumps(value, ensure_ascii=False, default=str)
    try:
        return line.encode()
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8
        return json.dumps(value, default=str).encode()


def _free(name, record):
    """The name under which something is added: every field of the input is kept."""
    while name in record:
        name = f"new_{name}"
    return name


def _line(record, added):
    return _json({**record, **{_free(name, record): value for name, value in added.items()}}) + b"\n"


def _added_part(line, record):
    """What stands in line after the fields of record; None where line does not begin with them.

    A line cut short belongs to the record if it begins as one does; then nothing was added yet.
    """
    for head in (_json(record)[:-1], json.dumps(record, default=str).encode()[:-1]):
        n = min(len(head), len(line))
        if line[:n] == head[:n]:
            return line[len(head):].lstrip(b", ")
    return None


def count_records(path):
    """How many records a file has, or None where finding out would mean reading it twice."""
    path = Path(path)
    if path.suffix == ".parquet":
        import pyarrow.parquet
        return pyarrow.parquet.read_metadata(path).num_rows
    if path.suffix == ".json":
        return None
    with open(path, "rb") as file:
        return sum(not line.isspace() for line in file)


def write_pairs(work, input_path, output_path, progress=True):
    """Write every record of input_path with what work adds to it to output_path, a .jsonl file; go on where it ends.

    work is Instructions or Scores of backchat/writing.py. Returns (records, of these with an error, records there
    before). Raises ValueError where the output belongs to another input, OSError where it cannot be written.
    """
    output_path = Path(output_path)
    next(records.read_file(input_path), None)  # an input that cannot be read makes no output
    if output_path.exists() and not output_path.is_file():
        raise ValueError(f"{output_path} is no file. --output is read again when a run goes on, so it must be one.")
    if output_path.exists() and output_path.samefile(input_path):
        raise ValueError(f"--input and --output are both {output_path}. Name another file to write to.")
    output_path.parent.mkdir(parents=True, exist_ok=True)
    stream = ((number, record) for number, (_, record) in enumerate(records.read_file(input_path)))
    errors = kept = total = end = 0
    going_on = True
    # Unbuffered: what could not be written must not be tried again on closing.
    with (open(output_path, "ab", buffering=0) as file, open(output_path, "rb") as written,
          tqdm(total=count_records(input_path), unit=" records", disable=not progress, smoothing=0.05) as bar):
        while window := list(itertools.islice(stream, WINDOW)):
            lines = list(itertools.islice(written, len(window))) if going_on else []
            for line, (number, record) in zip(lines, window):
                _check_belongs(line, record, number, work, input_path, output_path)
            if lines and not lines[-1].endswith(b"\n"):
                lines.pop()
            end += sum(map(len, lines))
            kept += len(lines)
            bar.update(len(lines))
            if len(lines) < len(window):
                if going_on:
                    going_on = False
                    file.truncate(end)  # a last line cut short goes
                most = total + len(window)  # a window done in part is done again, but counted once
                added = work(window, lambda n: bar.update(min(n, most - bar.n)))
                new = [_line(record, fields) for (_, record), fields in zip(window, added)][len(lines):]
                _append(file, new, output_path, total + len(lines))
                lines += new
            errors += sum(_added_part(line, record).startswith(_name("error", record))
                          for line, (_, record) in zip(lines, window))
            total += len(window)
        if going_on and written.read(1):
            raise ValueError(_another(output_path, input_path, f"it has more records than the input's {total:,}"))
    return total, errors, kept


def _append(file, lines, path, done):
    """Write whole lines; raises OSError with how many records there are where that fails."""
    try:
        for line in lines:
            rest = memoryview(line)
            while rest:
                rest = rest[file.write(rest):]
            done += 1
        os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, f"could not write {path} ({error.strerror}). Its first {done:,} records are whole; "
                                   "make room and run the same command again: it goes on from there") from error


def _name(name, record):
    """How JSON writes the name under which something is added to record."""
    return json.dumps(_free(name, record)).encode()


def _check_belongs(line, record, number, work, input_path, output_path):
    added, whole = _added_part(line, record), line.endswith(b"\n")
    if added is None or whole and len(added) < 3:
        raise ValueError(_another(output_path, input_path, f"record {number + 1:,} of the two differs"))
    names = [_name(name, record) for name in (work.first_field, "error")]
    if not any(added[:len(name)] == name[:len(added)] for name in names):
        raise ValueError(_another(output_path, input_path,
                                  f"record {number + 1:,} does not go on with {names[0].decode()}"))


def _another(output_path, input_path, why):
    return (f"{output_path} is there already and was not made from {input_path} in this way: {why}. "
            "Name another --output, or delete it to begin anew.")
