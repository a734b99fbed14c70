"""Files of every kind that a corpus may be in."""

import io

import pyarrow
import pyarrow.parquet


def write(path, content):
    """Write bytes or text; returns the path as a string."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def begins(content):
    """How a text or bytes begin: the name of a test on something long."""
    return repr(content[:20])


def parquet_bytes(columns, row_group_size=50):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, row_group_size=row_group_size)
    return sink.getvalue()
