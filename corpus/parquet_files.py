"""
Parquet files: their rows, a few at a time however long their groups are.
"""

from contextlib import contextmanager

from corpus import files

BATCH_BYTES = 2**26  # read at a time, if every value were as long as its whole row group
# What Arrow's conversion to Python's own values raises, one way or another.
_UNREADABLE = (ValueError, ArithmeticError, LookupError, TypeError, NotImplementedError, RecursionError)


@contextmanager
def _damage_named(path, what):
    """Let whatever Arrow finds in a file be a ValueError that names the file."""
    import pyarrow
    try:
        yield
    except (pyarrow.ArrowException, OSError, *_UNREADABLE) as error:
        raise ValueError(f"{path} is {what}: {str(error).strip()}. Fetch or copy it again") from error


def open_parquet(path, columns):
    """A pyarrow.parquet.ParquetFile; raises ValueError if it is not whole or lacks a column."""
    import pyarrow.parquet
    files.open_file(path).close()  # what the system has against it is said in the system's words
    with _damage_named(path, "not a whole Parquet file"):
        file = pyarrow.parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20,  # reads pages, not row groups
                                           page_checksum_verification=True)
        names = file.schema_arrow.names
    for column in columns:
        if column not in names:
            raise files.no_column(column, path, names)
    return file


def parquet_size(path, column):
    """Bytes that the columns of a Parquet file take together, nearly; raises what open_parquet does.

    Those of one column are not asked for: of a damaged file, Arrow ends the whole program there.
    """
    return max(0, sum(_group_sizes(open_parquet(path, [column]))))


def _group_sizes(file):
    return [file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)]


def read_parquet(path, columns=None):
    """(number of the row, record) of a Parquet file with these columns (None is all), a few at a time however long its
    row groups are."""
    file, number = open_parquet(path, columns or []), 0
    with _damage_named(path, "damaged"):
        largest = max([1, *_group_sizes(file)])
        rows = max(1, min(1000, BATCH_BYTES // largest))  # a dictionary holds once what many rows repeat
        for batch in file.iter_batches(rows, columns=columns, use_threads=False):
            for record in _records(batch, path, number + 1):
                number += 1
                yield number, record


def _records(batch, path, first):
    """The rows of a batch, the first of which has the number `first`, as records; a ValueError in the place of one
    that Python cannot hold (text that is not UTF-8, a day of the year 300,000)."""
    try:
        return batch.to_pylist()
    except _UNREADABLE:
        return [_row(batch.slice(row, 1), f"{path}, row {first + row:,}") for row in range(batch.num_rows)]


def _row(batch, where):
    record = {}
    for name, column in zip(batch.schema.names, batch.columns):
        try:
            [record[name]] = column.to_pylist()
        except UnicodeDecodeError as error:
            return ValueError(f"{where}: column {name!r} is not UTF-8 (byte 0x{error.object[error.start]:02x})")
        except _UNREADABLE as error:
            return ValueError(f"{where}: column {name!r} cannot be read ({error})")
    return record
