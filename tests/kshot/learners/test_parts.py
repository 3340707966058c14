"""Networks in rows of numbers: the very tensors they were made of, in memory of their own."""

import torch

from kshot.learners.parts import blocks_of, in_rows, joined

STACKED = {
    "weight": torch.arange(12.0).view(2, 3, 2),
    "bias": torch.arange(6.0).view(2, 3),
    "n": torch.tensor([7.0, 8]),
}


def test_parts_are_the_tensors_they_were_made_of() -> None:
    stack = in_rows(STACKED)
    torch.testing.assert_close(stack.tensors(), STACKED, rtol=0, atol=0)
    for i, own in enumerate(stack.separate()):
        assert list(own) == list(STACKED)
        torch.testing.assert_close(dict(own), {name: tensor[i] for name, tensor in STACKED.items()}, rtol=0, atol=0)


def test_a_network_keeps_its_own_numbers_alone() -> None:
    stack = in_rows(STACKED)
    first, _ = stack.separate()
    stack.rows.zero_()
    assert torch.equal(first["weight"], STACKED["weight"][0])
    (row,) = blocks_of(first)
    assert row.untyped_storage().nbytes() == sum(tensor[0].nbytes for tensor in STACKED.values())


def test_networks_of_one_layout_join_again_and_others_do_not() -> None:
    first, second = in_rows(STACKED).separate()
    again = joined([second, *in_rows(STACKED).separate()])
    assert again is not None
    torch.testing.assert_close(again.tensors()["bias"], STACKED["bias"][[1, 0, 1]], rtol=0, atol=0)
    (other,) = in_rows({"weight": torch.zeros(1, 2, 2), "bias": torch.zeros(1, 2)}).separate()
    assert joined([first, other]) is None
    assert joined([first, dict(second)]) is None
    assert joined([dict(first)]) is None
