"""Does a classifier's energy follow the score at every noise level? With and without help.

Self-calibration on the two moons, whose exact score is known: the same network and training with
each form of the energy (`fewlabel.classifier.NoisyClassifier`). For each noise level:

    output   root mean square of the network's own output h, centred over the classes and points
    gap      E σ² ‖s_φ − s*‖² / D, the internal score against the exact one; 1 is no score at all

    python benchmarks/energy_preconditioning.py [--steps 1500]
"""

import argparse

import torch
from torch import Tensor, optim

from fewlabel.batch import Batch
from fewlabel.classifier import Energy, NoisyClassifier
from fewlabel.experiments.moons import moons_mixture
from fewlabel.metrics.score_error import noisy_points
from fewlabel.networks.perceptron import Perceptron
from fewlabel.objectives import CrossEntropy, SelfCalibration
from fewlabel.process import VE
from fewlabel.randomness import StepRandom, generator_for

PROCESS = VE(0.03, 20.0)
LEVELS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 20.0)
ENERGIES: tuple[Energy, ...] = ("scaled", "quadratic", "plain")
LABELS, BATCH, RATE, WEIGHT, SEEDS, POINTS = 10, 256, 4e-3, 20.0, 3, 1000


def trained(energy: Energy, seed: int, steps: int) -> NoisyClassifier:
    """A classifier after `steps` of cross-entropy on few labels and self-calibration on all."""
    torch.manual_seed(seed)
    mixture = moons_mixture()
    x, y = mixture.means, mixture.classes
    model = NoisyClassifier(Perceptron(2, 2, 64, 2), PROCESS, float(x.std()), energy)
    generator = generator_for("energy preconditioning", seed)
    few = torch.cat(
        [
            torch.nonzero(y == k)[torch.randperm(5000, generator=generator)[: LABELS // 2], 0]
            for k in range(2)
        ]
    )
    optimizer = optim.AdamW(model.parameters(), lr=RATE)
    ce, sc = CrossEntropy(model), SelfCalibration(model)
    for step in range(steps):
        random = StepRandom(seed, step)
        some = torch.randint(len(x), (BATCH,), generator=generator)
        labelled = few[torch.randint(len(few), (BATCH,), generator=generator)]
        loss = ce(Batch(x[labelled], y[labelled]), random).mean()
        loss = loss + WEIGHT * sc(Batch(x[some], y[some]), random).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / steps) ** 0.5
        optimizer.step()
    return model.eval()


@torch.no_grad()
def figures(model: NoisyClassifier, sigma: float) -> tuple[float, float]:
    """The size of the network's output and the gap at a noise level."""
    mixture = moons_mixture()
    x, _ = noisy_points(mixture, PROCESS, sigma, POINTS, generator_for("gap", str(sigma)))
    t = PROCESS.time_at(torch.tensor(sigma))
    output = network_output(model, x, t)
    error = model.internal_score(x, t) - mixture.score(PROCESS)(x, t)
    return float(output.std()), float(sigma**2 * error.square().mean())


def network_output(model: NoisyClassifier, x: Tensor, t: Tensor) -> Tensor:
    """h(u, c_noise), (B, K)."""
    seen: list[Tensor] = []
    hook = model.network.register_forward_hook(lambda _, __, output: seen.append(output))
    model(x, t)
    hook.remove()
    return seen[0]


def main() -> None:
    """Print a table: a line an energy, mean over seeds of each figure at each noise level."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    steps = parser.parse_args().steps
    print(f"{LABELS} labels, {steps} steps, mean of {SEEDS} seeds; output / gap")
    print("| energy | " + " | ".join(f"σ = {sigma:g}" for sigma in LEVELS) + " |")
    print("| --- " * (len(LEVELS) + 1) + "|")
    for energy in ENERGIES:
        models = [trained(energy, seed, steps) for seed in range(SEEDS)]
        cells = []
        for sigma in LEVELS:
            found = torch.tensor([figures(model, sigma) for model in models]).mean(0)
            cells.append("{:.2f} / {:.4f}".format(*found.tolist()))
        print(f"| {energy} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
