import pytest
import torch

from fewlabel.errors import UserError
from fewlabel.metrics import generation_accuracy, generation_hits, proportion

LOG_PROB = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]]).log()


def test_hits_and_their_share() -> None:
    labels = torch.tensor([0, 1, 1, 1])
    hits = generation_hits(LOG_PROB, labels)
    assert hits.tolist() == [True, True, False, True]
    assert generation_accuracy(LOG_PROB.numpy(), labels.numpy()) == 0.75
    assert proportion(hits).value == 0.75


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 1], r"labels go from 0 to 2, the classifier knows 0\.\.1"),
        ([0, 1, -1, 1], "labels go from -1 to 1"),
        ([0, 1], r"log_prob has shape \(4, 2\) and labels \(2,\)"),
    ],
)
def test_refuses_labels(labels: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        generation_hits(LOG_PROB, torch.tensor(labels))


def test_refuses_nan_and_nothing() -> None:
    with pytest.raises(UserError, match="NaN"):
        generation_hits(LOG_PROB * torch.nan, torch.zeros(4, dtype=torch.long))
    with pytest.raises(UserError, match="no generated samples"):
        generation_hits(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
