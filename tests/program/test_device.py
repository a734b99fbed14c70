"""Where the model runs and in which numbers: what is asked for if it is there, else an error that names what is."""

import pytest
import torch

from program.device import autocast, pick_device, pick_dtype, use_threads


def test_a_device_that_is_not_here_names_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--device cuda:1 is not available here; there are: auto, .*cpu"):
        pick_device("cuda:1")


def test_an_unknown_device_names_those_that_are():
    with pytest.raises(ValueError, match="--device gpu is not available here; there are: auto, .*cpu"):
        pick_device("gpu")


@pytest.mark.parametrize("name", ["cuda:2", "cuda:-1", "cuda:", "cuda:x", "CUDA", "cpu:x", "mps", ""])
def test_a_number_or_name_that_no_device_has_names_those_that_are(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"--device {name} is not .*; there are: auto, cuda, cpu, cuda:0, cuda:1$"):
        pick_device(name)
    assert pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("cuda, mps, expected", [(False, False, "cpu"), (False, True, "mps"), (True, False, "cuda"),
                                                 (True, True, "cuda")])
def test_auto_takes_the_fastest_device_there_is(cuda, mps, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto").type == expected


@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_pytorch_computes_on_as_many_threads_as_are_wanted(threads, wanted):
    assert use_threads(wanted) == torch.get_num_threads() == wanted


def test_without_a_number_the_threads_stay_as_many_as_they_are(threads):
    assert use_threads() == use_threads(None) == torch.get_num_threads() == threads


def test_the_cpu_is_always_there():
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_number_format_named_is_taken(name):
    assert pick_dtype(name, torch.device("cpu")) is getattr(torch, name)


@pytest.mark.parametrize("name", ["float16", "float64", "int8", "half", ""])
def test_any_other_number_format_names_those_there_are(name):
    with pytest.raises(ValueError, match=f"--dtype {name} is not known; it takes auto, bfloat16 or float32"):
        pick_dtype(name, torch.device("cpu"))


@pytest.mark.parametrize("fast, expected", [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_takes_bfloat16_only_where_the_hardware_multiplies_it(fast, expected, monkeypatch):
    monkeypatch.setattr("program.device._cpu_multiplies_bfloat16", lambda: fast)
    assert pick_dtype("auto", torch.device("cpu")) is expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_model_computes_in_the_number_format_asked_for(dtype):
    with autocast(torch.device("cpu"), dtype):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is dtype
