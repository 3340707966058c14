"""The choice of the processor, and its settings that answers depend on."""

import argparse

import pytest
import torch

from kshot.contracts.errors import Invalid, Unavailable
from kshot.device import CPU, add_device_option, choose_device


def test_matrices_are_multiplied_in_full_float32():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    assert choose_device("cpu") == torch.device("cpu")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
def test_each_of_several_processes_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch):
    assert choose_device("auto") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:1")


@pytest.mark.usefixtures("two_gpus")
def test_processes_without_a_gpu_for_each_compute_alike(monkeypatch: pytest.MonkeyPatch):
    """All on the CPU, though some could have a GPU: they could not add their gradients up."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert choose_device("auto") == CPU
    with pytest.raises(Unavailable, match="fewer than 3 GPUs"):
        choose_device("cuda")


def test_a_gpu_that_is_wanted_and_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    with pytest.raises(Unavailable, match="set KSHOT_DEVICE=auto or cpu"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("environment", "given", "expected"), [("", [], "cpu"), ("auto", [], "auto"), ("auto", ["--device", "cpu"], "cpu")]
)
def test_commands_take_it_from_their_options_then_from_the_environment(
    environment: str, given: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KSHOT_DEVICE", environment)
    parser = argparse.ArgumentParser()
    add_device_option(parser)
    assert parser.parse_args(given).device == expected


def test_another_word_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KSHOT_DEVICE", "tpu")
    parser = argparse.ArgumentParser()
    add_device_option(parser)
    with pytest.raises(Invalid, match="tpu is none of auto, cpu, cuda"):
        choose_device(parser.parse_args([]).device)
