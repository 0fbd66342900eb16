"""Joint energy-based models (JEM): the classifier's energy is fitted by maximum likelihood."""

import torch
from torch import Tensor

from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier
from fewlabel.objectives.term import Term
from fewlabel.objectives.times import Times, default_times
from fewlabel.process import broadcast
from fewlabel.randomness import StepRandom

__all__ = ["CHAINS", "JointEnergy"]

CHAINS = 2048
"""How many chains there are: a step has no more rows, each of which takes one."""

_FAR = 5.0  # a chain this many standard deviations of p_t out on average has diverged


class JointEnergy(Term):
    """−[logsumexp f(x_t, t) − logsumexp f(x̃, t)] with x̃ from a Langevin chain at the same t.

    Its gradient is that of the negative log-likelihood where x̃ ~ exp(logsumexp f(·, t)).
    Grathwohl et al. 2020, "Your Classifier is Secretly an Energy Based Model and You Should Treat
    it Like One", arXiv 1912.03263. A replay buffer keeps chains (x̃, t); a share of them starts
    anew each time. One step is x̃ ← x̃ + ½ η² s_φ(x̃, t) + η z with η = rate · σ(t). A chain that
    becomes non-finite or leaves the data's range starts anew and does not count.

    Args:
        classifier: the classifier that is trained.
        shape: the shape of one example.
        chains: size of the replay buffer.
        steps: Langevin steps a training step.
        rate: step size relative to σ(t).
        restart: the probability that a chain starts anew.
        times: the distribution of training times; None for that of the process, `default_times`.
    """

    chain_x: Tensor
    chain_t: Tensor

    def __init__(
        self,
        classifier: NoisyClassifier,
        shape: tuple[int, ...],
        chains: int = CHAINS,
        steps: int = 20,
        rate: float = 0.3,
        restart: float = 0.05,
        times: Times | None = None,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.times = times or default_times(classifier.process)
        self.steps, self.rate, self.restart = steps, rate, restart
        self.register_buffer("chain_x", torch.zeros(chains, *shape))
        self.register_buffer("chain_t", torch.zeros(chains))  # 0: not started

    def forward(self, batch: Batch, random: StepRandom) -> Tensor:
        """The loss of each example, (B,); labels are not used."""
        chosen = random.distinct_like(batch.x, len(self.chain_t))
        x, t = self._start(self.chain_x[chosen], self.chain_t[chosen], random)
        for _ in range(self.steps):
            x = self._langevin(x, t, random)
        valid = self._inside(x, t)
        self.chain_x[chosen] = torch.where(broadcast(valid, x), x, torch.zeros_like(x))
        self.chain_t[chosen] = torch.where(valid, t, 0.0)
        process = self.classifier.process
        x_t = process.perturb(batch.x, t, random.normal_like(batch.x))
        x = torch.where(broadcast(valid, x), x, x_t)
        return self.classifier(x, t).logsumexp(-1) - self.classifier(x_t, t).logsumexp(-1)

    def _start(self, x: Tensor, t: Tensor, random: StepRandom) -> tuple[Tensor, Tensor]:
        """Begin the chains that have not started, and a few others, from a wide Gaussian."""
        anew = (t == 0) | (random.quantiles_like(x) < self.restart)
        t = torch.where(anew, self._times_like(x, random), t)
        start = random.normal_like(x) * broadcast(self._spread(t), x)
        return torch.where(broadcast(anew, x), start, x), t

    def _times_like(self, x: Tensor, random: StepRandom) -> Tensor:
        return self.times.quantile(random.quantiles_like(x), self.classifier.process)

    def _langevin(self, x: Tensor, t: Tensor, random: StepRandom) -> Tensor:
        score = self.classifier.internal_score(x, t)
        size = broadcast(self.rate * self.classifier.process.sigma(t), x)
        return (x + size**2 / 2 * score + size * random.normal_like(x)).detach()

    def _inside(self, x: Tensor, t: Tensor) -> Tensor:
        size = x.flatten(1).square().mean(1).sqrt()
        return torch.isfinite(size) & (size < _FAR * self._spread(t))

    def _spread(self, t: Tensor) -> Tensor:
        """Standard deviation of x_t for data of standard deviation σ_data around 0."""
        process, sigma_data = self.classifier.process, self.classifier.sigma_data
        return torch.sqrt((process.alpha(t) * sigma_data) ** 2 + process.sigma(t) ** 2)
