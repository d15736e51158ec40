import pytest
import torch
from fyc_wanda import prune


def test_the_lowest_scores_of_every_row_become_zero():
    linear = torch.nn.Linear(4, 2, bias=False)
    linear.weight.data = torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    assert prune(linear, torch.tensor([100.0, 1.0, 1.0, 1.0]) ** 2, 0.5) == 0.5
    # Scores: [100, 2, 3, 4] and [400, 3, 2, 1].
    assert linear.weight.tolist() == [[1.0, 0.0, 0.0, 4.0], [4.0, 3.0, 0.0, 0.0]]


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.75])
def test_the_share_of_zeros_is_the_sparsity(sparsity):
    torch.manual_seed(0)
    assert prune(torch.nn.Linear(64, 8), torch.rand(64), sparsity) == sparsity
