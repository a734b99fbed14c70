"""
What earlier runs have left of a file of pairs, and whether this run may go on with it.

    pairs.jsonl                  the lines that were written, of the first records
    pairs.jsonl.settings.json    the model and the settings that they were written with
    pairs.jsonl.earlier          while records with an error are done again: the lines from before, good ones among them

Lines of different models or settings are never mixed in silence. Another --response-field or --tokens decides which
records get anything: with it, records with an error are done again and the others kept, and that is said.
"""

import itertools
import json

from backchat.pair_lines import is_error
from program.files import atomic_write

DECIDE_WHAT_FITS = {"response_field", "tokens"}  # settings that may change where there are good lines
BEGIN_ANEW = "Name another --output, or begin anew with --overwrite."
NOT_OURS = "Name another --output, or delete it yourself."


def _beside(output_path, ending):
    return output_path.with_name(f"{output_path.name}.{ending}")


def earlier_path(output_path):
    return _beside(output_path, "earlier")


def whole_lines(path):
    """The whole lines of a file that may not be there."""
    if path.exists():
        with open(path, "rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))


def _all_lines(output_path):
    """The lines of a file of pairs, and for records behind them those that were put aside."""
    written = 0
    for line in whole_lines(output_path):
        written += 1
        yield line
    yield from itertools.islice(whole_lines(earlier_path(output_path)), written, None)


def remove(output_path):
    """Forget all that earlier runs have left. Raises ValueError for a file that no run has written."""
    if output_path.exists() and not _beside(output_path, "settings.json").exists():
        raise ValueError(f"{output_path} is there already and was not made by this program: no "
                         f"{output_path.name}.settings.json stands beside it. {NOT_OURS}")
    for path in (output_path, earlier_path(output_path), _beside(output_path, "settings.json")):
        path.unlink(missing_ok=True)


def go_on(output_path, stream, settings, tell):
    """Go on with what is there, if that was made with these settings, a dict of plain values; write them down.

    Where records with an error are to be done again, all lines are put aside, and whoever writes takes the good ones
    from there; tell(message) is told. stream yields the records of the input. Raises ValueError naming what differs.
    """
    path = _beside(output_path, "settings.json")
    begun = output_path.exists() and output_path.stat().st_size  # be it with less than a line
    if begun or next(_all_lines(output_path), None) is not None:
        changed = _changes(output_path, path, settings)
        if not changed:
            return
        what = "; ".join(f"{name} was {was}, is {now}" for name, (was, now) in changed.items())
        if not changed.keys() <= DECIDE_WHAT_FITS and not _only_errors(output_path, stream):
            raise ValueError(f"{output_path} is there already and was made with other settings: {what}. {BEGIN_ANEW}")
        tell(f"{output_path}: {what}. Records with an error are done again, the others kept.")
        _put_aside(output_path)
    with atomic_write(path) as file:
        file.write(json.dumps(settings, indent=1).encode() + b"\n")


def _changes(output_path, path, settings):
    """What differs from the settings at path: {name: (was, is)}."""
    try:
        earlier = json.loads(path.read_bytes())
        return {name: (json.dumps(earlier.get(name)), json.dumps(settings.get(name)))
                for name in {**earlier, **settings} if earlier.get(name) != settings.get(name)}
    except (FileNotFoundError, ValueError, TypeError, AttributeError) as error:  # the last two: it holds no object
        raise ValueError(f"{output_path} is there already, and {path}, which says how it was made, is missing or "
                         f"damaged. {NOT_OURS}") from error


def _only_errors(output_path, stream):
    """Whether no line that is there holds anything but the error of its record."""
    lines = itertools.zip_longest(_all_lines(output_path), stream)
    return all(record is not None and is_error(line, record)
               for line, record in itertools.takewhile(lambda pair: pair[0] is not None, lines))


def _put_aside(output_path):
    """Stopped anywhere, it can be done again: lines that are in both places count once."""
    with atomic_write(earlier_path(output_path)) as file:
        file.writelines(_all_lines(output_path))
    output_path.unlink(missing_ok=True)


def finish(output_path):
    """Remove what was put aside, once every record is written."""
    earlier_path(output_path).unlink(missing_ok=True)
