"""What a file is known again by."""

import os

import pytest

from corpus.files import identity


def test_a_file_is_known_by_its_size_and_its_content_wherever_and_whenever_it_was_written(tmp_path):
    for name, time in (("a.txt", 1), ("b.txt", 2)):
        (tmp_path / name).write_bytes(b"the same " * 200_000)
        os.utime(tmp_path / name, (time, time))
    assert identity(tmp_path / "a.txt") == identity(tmp_path / "b.txt")
    assert identity(tmp_path / "a.txt")["bytes"] == 1_800_000


@pytest.mark.parametrize("size", [1, 2, 65_536, 8 * 65_536 + 1, 2**22])
def test_any_other_byte_makes_another_file_of_one_of_four_megabytes(tmp_path, size):
    (tmp_path / "a.bin").write_bytes(bytes(size))
    known = identity(tmp_path / "a.bin")
    for place in {0, 1, size // 3, size // 2, 5 * size // 7, size - 1} & set(range(size)):
        data = bytearray(size)
        data[place] = 1
        (tmp_path / "a.bin").write_bytes(data)
        assert identity(tmp_path / "a.bin") != known


def test_of_a_huge_file_head_tail_and_whatever_has_moved_is_noticed_at_once(tmp_path):
    size, identities = 10**11, []
    for place in (None, 0, 65_535, size - 65_536, size - 1):
        with open(tmp_path / "a.bin", "wb") as file:
            file.truncate(size)  # sparse: it takes no room
            if place is not None:
                file.seek(place)
                file.write(b"x")
        identities.append(identity(tmp_path / "a.bin")["hash"])
    assert len(set(identities)) == 5


def test_a_change_anywhere_in_a_larger_file_is_noticed_by_its_time(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(2**23))
    os.utime(tmp_path / "a.bin", (1, 1))
    known = identity(tmp_path / "a.bin")
    assert identity(tmp_path / "a.bin") == known
    with open(tmp_path / "a.bin", "r+b") as file:
        file.seek(2**22 + 2**18)  # between two blocks
        file.write(b"x")
    assert identity(tmp_path / "a.bin") != known and identity(tmp_path / "a.bin")["hash"] == known["hash"]
