"""The inception score: sure of each sample, and of something else each time."""

import torch

from fewlabel.errors import UserError
from fewlabel.metrics.checks import Array, checked_scores
from fewlabel.metrics.intervals import MeanStd

__all__ = ["inception_score"]


def inception_score(log_prob: Array, splits: int = 10) -> MeanStd:
    """The score exp E_x KL(p(y|x) ‖ p(y)) of generated samples.

    p(y) = E_x p(y|x) is taken over each split by itself, and E KL is the entropy of p(y) less the
    mean entropy of p(y|x). Salimans et al. 2016, "Improved Techniques for Training GANs", arXiv
    1606.03498, with an ImageNet classifier; with another judge the figures are other ones. It does
    not look at real samples, and grows with the number of samples in a split.

    Args:
        log_prob: (N, K) log-probabilities or logits of the judge.
        splits: consecutive parts of the samples, of equal size or one less. Samples that come
            sorted by class must be shuffled before.

    Returns:
        Mean and standard deviation (with S−1; 0 for one split) over the S splits of the score,
        which lies in [1, K].

    Raises:
        UserError: not two dimensions, NaN, or fewer than two samples in a split.
    """
    scores = checked_scores(log_prob)
    if splits < 1 or len(scores) < 2 * splits:
        raise UserError(
            f"{len(scores)} sample(s) in {splits} splits: give at least 1 split of 2 samples each"
        )
    p = scores.exp()
    own_entropy = torch.special.entr(p).sum(1)
    parts = zip(p.tensor_split(splits), own_entropy.tensor_split(splits), strict=True)
    gains = [torch.special.entr(q.mean(0)).sum() - own.mean() for q, own in parts]
    figures = torch.stack(gains).exp()
    return MeanStd(float(figures.mean()), float(figures.std()) if splits > 1 else 0.0)
