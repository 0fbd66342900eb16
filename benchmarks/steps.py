"""What a step costs, as ratios within one run: losses in training, guidance in sampling.

Run with `make bench`. Each figure is the median of interleaved repetitions, so that a machine
whose speed drifts distorts the ratios little.
"""

import time
from collections.abc import Callable
from statistics import median

import torch

from fewlabel import guidance, samplers
from fewlabel.batch import Batch
from fewlabel.classifier import NoisyClassifier
from fewlabel.networks.convolutional import ConvClassifier
from fewlabel.networks.unet import UNet
from fewlabel.objectives import CrossEntropy, SelfCalibration, Term
from fewlabel.process import EDM
from fewlabel.randomness import StepRandom
from fewlabel.score import ScoreModel

REPETITIONS = 9
PROCESS = EDM(sigma_min=0.01, sigma_max=20.0)


def seconds(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median time of each piece of work, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for repetition in range(REPETITIONS + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if repetition:
                times[name].append(time.perf_counter() - began)
    return {name: median(values) for name, values in times.items()}


def show(title: str, measured: dict[str, float]) -> None:
    """Print each time relative to the first."""
    base = next(iter(measured.values()))
    print(title)
    for name, value in measured.items():
        print(f"  {name:<36} {value / base:5.2f}  ({1e3 * value:.0f} ms)")


def training_step(term: Term, batch: Batch) -> Callable[[], object]:
    """A step of one loss: forward and backward."""

    def step() -> None:
        term.zero_grad()
        term(batch, StepRandom(0, 0)).mean().backward()

    return step


def main() -> None:
    """Measure and print."""
    torch.manual_seed(0)
    batch = Batch(torch.randn(64, 1, 8, 8), torch.arange(64) % 10)
    network = ConvClassifier(1, 10, (32, 64), (1, 1))
    classifier = NoisyClassifier(network, PROCESS, 0.75).to(memory_format=torch.channels_last)
    losses = {
        "cross-entropy": CrossEntropy(classifier),
        "self-calibration": SelfCalibration(classifier),
    }
    show("a training step", seconds({n: training_step(t, batch) for n, t in losses.items()}))

    unet = UNet(1, (32, 64), 1, (False, True))
    score = ScoreModel(unet, PROCESS, 0.75).to(memory_format=torch.channels_last).eval()
    guided = guidance.classifier(score, classifier.likelihood_score, label=3, scale=2.0)
    shape = (64, 1, 8, 8)
    draws = {
        "dpm++, unguided": lambda: samplers.sample(score, PROCESS, shape, "dpm++", 12),
        "dpm++, classifier guidance": lambda: samplers.sample(guided, PROCESS, shape, "dpm++", 12),
        "heun, unguided": lambda: samplers.sample(score, PROCESS, shape, "heun", 12),
    }
    show("64 samples, 12 grid points", seconds(draws))


if __name__ == "__main__":
    main()
