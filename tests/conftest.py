"""
One thread per process: the test files run side by side, and two threads on a busy core wait for each other. And what
several files share that is made once in each of them: a base model, and instruction examples for it.
"""

import os
import signal

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, so what needs it is imported below
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, and so would the programs

LONGEST = ("tests/program/test_ranks.py", "tests/test_preprocess_xcoax.py", "tests/test_sample_xcoax.py",
           "tests/test_train_xcoax.py")


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest: one of them at the end would have nothing beside it."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))


@pytest.fixture(scope="module", autouse=True)
def signals():
    """A script that a test calls sets handlers, and the process of the tests goes on after it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGPIPE, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def threads():
    """The number of PyTorch's threads, which a test may change."""
    import torch
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer():
    """The tokenizer of `base` and `data`."""
    from tests.support.instruct import instruct_tokenizer
    return instruct_tokenizer()


@pytest.fixture(scope="module")
def base(tokenizer, tmp_path_factory):
    """A base model that has learned nothing."""
    from tests.support.instruct import save_base
    return save_base(tmp_path_factory.mktemp("base") / "best_checkpoint.pt", tokenizer)


@pytest.fixture(scope="module")
def data(base, tmp_path_factory):
    """A folder of instruction examples."""
    from tests.support.instruct import make_examples
    return make_examples(tmp_path_factory.mktemp("instruct"), base)
