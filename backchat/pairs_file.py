"""
A file of responses becomes a file of pairs: records in, the same records with an instruction and its scores out.

Records are worked on in windows and written in their order when the window is whole; windows begin at fixed records. So
a run that was stopped reads over what is written, compares it with the input, and goes on; the file it ends with is the
same, byte for byte, as that of an unbroken run. What may be gone on with is known to earlier.py.
"""

import itertools
import os
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from backchat import earlier, records
from backchat.pair_lines import added_part, error_of, free_name, goes_on_with, is_error, line_of
from program.files import locked_file

WINDOW = 512            # records worked on and written together; what a kill can cost
_COUNTED_BYTES = 2**20  # of a line held at a time


class Written(NamedTuple):
    """What a file of pairs holds in the end."""

    records: int
    errors: int        # records with an error
    kept: int          # records that were there before
    fault: str | None  # the first error


def count_records(path):
    """How many records a file has, or None where finding out would mean reading it twice."""
    path = Path(path)
    if path.suffix == ".parquet":
        import pyarrow.parquet
        return pyarrow.parquet.read_metadata(path).num_rows
    if path.suffix == ".json":
        return None
    count, blank = 0, True
    with open(path, "rb") as file:
        while piece := file.readline(_COUNTED_BYTES):
            blank = blank and piece.isspace()
            if piece.endswith(b"\n"):
                count, blank = count + (not blank), True
    return count + (not blank)


def write_pairs(work, input_path, output_path, settings, overwrite=False, progress=True, tell=lambda message: None):
    """Write every record of input_path with what work adds to it to output_path, a .jsonl file; go on where it ends.

    work is Instructions or Scores of backchat/writing.py, settings a dict of plain values, all that decides what is
    written; tell(message) is told where it differs from before and what becomes of that. Returns Written. Raises
    ValueError where the output was made from another input or in another way, OSError where it cannot be written.
    """
    output_path = Path(output_path)
    _check_paths(input_path, output_path)
    with locked_file(output_path):
        if overwrite:
            earlier.remove(output_path)
        earlier.go_on(output_path, (record for _, record in records.read_file(input_path)), settings, tell)
        # Unbuffered: what could not be written must not be tried again on closing.
        with (open(output_path, "ab", buffering=0) as file, open(output_path, "rb") as written,
              tqdm(total=count_records(input_path) if progress else None, unit=" records", disable=not progress,
                   smoothing=0.05) as bar):
            found = _write(work, input_path, output_path, file, written, bar)
        earlier.finish(output_path)
    return found


def _check_paths(input_path, output_path):
    if Path(input_path).exists() and not Path(input_path).is_file():
        raise ValueError(f"{input_path} is no file. --input is read more than once, so it must be one.")
    next(records.read_file(input_path), None)  # an input that cannot be read makes no output
    if output_path.exists() and not output_path.is_file():
        raise ValueError(f"{output_path} is no file. --output is read again when a run goes on, so it must be one.")
    if output_path.exists() and output_path.samefile(input_path):
        raise ValueError(f"--input and --output are both {output_path}. Name another file to write to.")


def _write(work, input_path, output_path, file, written, bar):
    """Window after window: over the lines of `written`, a file at its beginning, and then those that work makes."""
    stream = ((number, record) for number, (_, record) in enumerate(records.read_file(input_path)))
    aside = earlier.whole_lines(earlier.earlier_path(output_path))
    total = errors = kept = end = 0
    fault, going_on = None, True
    while window := list(itertools.islice(stream, WINDOW)):
        lines = list(itertools.islice(written, len(window))) if going_on else []
        before = list(itertools.islice(aside, len(window)))
        for line, (number, record) in [*zip(lines, window), *zip(before, window)]:
            _check_belongs(line, record, number, work, input_path, output_path)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        there = len(lines)
        end += sum(map(len, lines))
        bar.update(there)
        kept += there + sum(not is_error(line, record) for line, (_, record) in [*zip(before, window)][there:])
        if there < len(window):
            if going_on:
                going_on = False
                file.truncate(end)  # a last line cut short goes
            lines += _make(work, window, before, bar)[there:]
            _append(file, lines[there:], output_path, total + there)
            bar.set_postfix_str("", refresh=False)
            bar.update(len(window) - there)
        for line, (_, record) in zip(lines, window):
            if is_error(line, record):
                errors, fault = errors + 1, fault or error_of(line, record)
        total += len(window)
    if next(aside, None) or going_on and written.read(1):
        raise ValueError(_another(output_path, input_path, f"it has more records than the input's {total:,}"))
    return Written(total, errors, kept, fault)


def _make(work, window, before, bar):
    """The lines of a window: the good ones of before, which begins with it, and those of what work adds to the rest.

    A window that is there in part is made as a whole: a record's company decides the last digits of its scores.
    """
    good = {number: line for line, (number, record) in zip(before, window) if not is_error(line, record)}
    missing = [pair for pair in window if pair[0] not in good]
    done = 0

    def advance(n):  # the bar counts records on disk; those in work stand behind it
        nonlocal done
        done += n
        if n:
            bar.set_postfix_str(f"{done} of {len(missing)} in work")

    added = iter(work(missing, advance))
    return [good[number] if number in good else line_of(record, next(added)) for number, record in window]


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
        raise OSError(f"could not write {path} ({error.strerror}). Its first {done:,} records are whole; make room and "
                      "run the same command again: it goes on from there") from error


def _check_belongs(line, record, number, work, input_path, output_path):
    """Raise ValueError where a line was not made from this record by such work."""
    part, whole = added_part(line, record), line.endswith(b"\n")
    if part is None or whole and len(part) < 3:
        raise ValueError(_another(output_path, input_path, f"record {number + 1:,} of the two differs"))
    if not goes_on_with((work.first_field, "error"), part, record):
        raise ValueError(_another(output_path, input_path, f"record {number + 1:,} does not go on with "
                                                           f'"{free_name(work.first_field, record)}"'))


def _another(output_path, input_path, why):
    return (f"{output_path} is there already and was not made from {input_path} in this way: {why}. "
            + earlier.BEGIN_ANEW)
