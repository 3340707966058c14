"""The processor's settings that answers depend on."""

import torch

from workers.device import choose_device


def test_matrices_are_multiplied_in_full_float32():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    assert choose_device("cpu") == torch.device("cpu")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
