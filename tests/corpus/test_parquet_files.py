"""What reading Parquet promises: every row once, in little memory, and help where a file is bad."""

import itertools
import random

import pyarrow
import pyarrow.parquet
import pytest

from corpus import parquet_files
from corpus.parquet_files import read_parquet
from tests.support.files import parquet_bytes, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("corpus")


def test_one_huge_row_group_is_read_a_little_at_a_time(folder):
    """300,000 rows, 30 MB of text: the reader's own memory stays under a third of that."""
    path = str(folder / "group.parquet")
    rng = random.Random(1)
    rows = [rng.randbytes(50).hex() for _ in range(300_000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": rows}), path, row_group_size=10**9, use_dictionary=False)
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 1
    before, most = pyarrow.total_allocated_bytes(), 0
    for number, record in read_parquet(path, ["text"]):
        assert record["text"] == rows[number - 1]
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert number == len(rows)
    assert most < 10_000_000


def test_a_long_text_that_a_thousand_rows_repeat_takes_little_memory(folder):
    """A file of some hundred bytes, and of a gigabyte if all rows were read at once."""
    one = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000, pyarrow.int32()), ["ab" * 2**19])
    path = str(folder / "dictionary.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"text": one}), path, dictionary_pagesize_limit=2**30, compression="zstd")
    before, most = pyarrow.total_allocated_bytes(), 0
    for _, record in itertools.islice(read_parquet(path, ["text"]), 200):
        assert record["text"] == "ab" * 2**19
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert most < 1.5 * parquet_files.BATCH_BYTES


@pytest.mark.parametrize("column", ["text", "large", "dictionary", "nested"])
def test_text_of_a_parquet_file_that_is_not_utf8_is_named_by_its_row(folder, column):
    values = pyarrow.array([b"one", b"tw\xff", b"three"]).view(pyarrow.string())
    if column == "large":
        values = pyarrow.array([b"one", b"tw\xff", b"three"], pyarrow.large_binary()).view(pyarrow.large_string())
    if column == "dictionary":
        values = values.dictionary_encode()
    if column == "nested":
        values = pyarrow.ListArray.from_arrays([0, 1, 2, 3], values)
    path = write(folder / "bad.parquet", parquet_bytes({"n": [1, 2, 3], column: values}))
    found = list(read_parquet(path))
    assert [number for number, _ in found] == [1, 2, 3]
    assert [record["n"] for _, record in found[::2]] == [1, 3]
    assert str(found[1][1]) == f"{path}, row 2: column {column!r} is not UTF-8 (byte 0xff)"


def test_a_value_that_python_cannot_hold_is_named_by_its_row(folder):
    days = pyarrow.array([0, 10**12], pyarrow.int64()).cast(pyarrow.timestamp("s"))
    path = write(folder / "late.parquet", parquet_bytes({"day": days}))
    [(_, first), (_, second)] = read_parquet(path)
    assert first["day"].year == 1970 and f"{path}, row 2: column 'day' cannot be read" in str(second)
