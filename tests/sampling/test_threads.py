"""How many threads are taken: those asked for, else whichever number is faster."""

import time

import pytest
import torch

from sampling.decoding import Decoder
from sampling.threads import settle_threads
from tests.support.network import tiny


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Slow(Decoder):
    """Takes a time that depends on the number of threads."""

    milliseconds = {1: 1, 2: 1}

    def logits(self, x):
        time.sleep(self.milliseconds[torch.get_num_threads()] / 1000)
        return super().logits(x)


@pytest.mark.parametrize("milliseconds, taken", [({1: 3, 2: 30}, 1), ({1: 30, 2: 3}, 2), ({1: 10, 2: 10}, 1)])
def test_whichever_number_is_faster_is_taken_and_one_where_both_are_alike(milliseconds, taken):
    decoder = Slow(tiny())
    decoder.milliseconds = milliseconds
    assert settle_threads(decoder) == taken == torch.get_num_threads()


def test_the_number_asked_for_is_taken_untried(monkeypatch):
    decoder = Decoder(tiny())
    monkeypatch.setattr(decoder, "read", lambda *_: pytest.fail("it was tried"))
    assert settle_threads(decoder, 1) == 1 == torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert settle_threads(decoder) == 2


def test_no_thread_at_all_is_refused():
    with pytest.raises(ValueError, match="--threads 0: there must be at least one"):
        settle_threads(Decoder(tiny()), 0)
