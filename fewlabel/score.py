"""Score models: a network, a process and a preconditioning make a score function.

The network sees inputs of unit variance and predicts targets of unit variance at every noise
level (Karras et al. 2022, arXiv 2206.00364, table 1). In the coordinates u = x/α, r = σ/α:

    D(x, t) = c_skip(r) u + c_out(r) F(c_in(r) u, c_noise(r))       E[x0 | x_t]
    s(x, t) = (α D(x, t) − x) / σ²                                  ∇_x log p_t(x)

with c_skip = σ_d²/(r²+σ_d²), c_out = r σ_d/√(r²+σ_d²), c_in = 1/√(r²+σ_d²), c_noise = ¼ log r,
where σ_d is the standard deviation of the data.

Networks that were published elsewhere are given x and the time, and predict one of these; k is
their unit of time, or of noise:

    "noise"       F(x, k t) = ε        s = −F/σ
    "clean"       F(x, k t) = x0       s = (α F − x)/σ²
    "velocity"    F(x, k t) = v        s = −(σ x + α F)/(σ (α² + σ²)),  v = α ε − σ x0
    "score"       F(x, k σ) = s/k      s = k F
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from fewlabel.process import Process, broadcast

__all__ = ["Prediction", "ScoreFunction", "ScoreModel", "denoised", "score_weight"]

Prediction = Literal["preconditioned", "noise", "clean", "velocity", "score"]
"""What a network predicts of what: as at the head of this page."""

ScoreFunction = Callable[[Tensor, Tensor], Tensor]
"""(x: (B, ...), t: () or (B,)) → the score ∇_x log p_t(x), shaped like x."""


def denoised(score: Tensor, x: Tensor, t: Tensor, process: Process) -> Tensor:
    """Tweedie's formula E[x0 | x_t] = (x_t + σ² s(x_t, t)) / α, shaped like x."""
    alpha, sigma = broadcast(process.alpha(t), x), broadcast(process.sigma(t), x)
    return (x + sigma**2 * score) / alpha


def score_weight(process: Process, t: Tensor, sigma_data: float) -> Tensor:
    """λ(t) = σ² (1 + r²/σ_d²): makes ‖s + z/σ‖² of order one at every noise level.

    It is the weight of Karras et al. 2022 (arXiv 2206.00364, eq. 8), λ_EDM = (r²+σ_d²)/(r σ_d)²
    on ‖D − x0‖², written for scores: D − x0 = (σ²/α)(s + z/σ).
    """
    return process.sigma(t) ** 2 * (1 + (process.noise_ratio(t) / sigma_data) ** 2)


class ScoreModel(nn.Module):
    """A trained or trainable score function s_θ(x, t) ≈ ∇_x log p_t(x).

    Args:
        network: F(u, c_noise) with u of shape (B, ...) and c_noise of shape (B,), both of order
            one; returns a tensor shaped like u. This one method is all a network needs. A
            conditional one is F(u, c_noise, y=None) with labels y of shape (B,), −1 for none.
        process: the noise process whose scores are meant.
        sigma_data: standard deviation σ_d of the data, greater than 0.
        prediction: what the network predicts; "preconditioned" is F as above.
        time_scale: k, the network's unit of time or noise; of no account if preconditioned.
    """

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        sigma_data: float,
        prediction: Prediction = "preconditioned",
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.process = process
        self.sigma_data = sigma_data
        self.prediction = prediction
        self.time_scale = time_scale

    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """D(x, t, y) ≈ E[x0 | x_t = x, y], shaped like x; the arguments are those of `forward`."""
        if self.prediction != "preconditioned":
            return denoised(self(x, t, y), x, t, self.process)
        t = t.expand(len(x))
        ratio = self.process.noise_ratio(t)
        u = x / broadcast(self.process.alpha(t), x)
        norm = torch.sqrt(ratio**2 + self.sigma_data**2)
        c_skip, c_out = (self.sigma_data / norm) ** 2, ratio * self.sigma_data / norm
        labels = () if y is None else (y,)
        output = self.network(u / broadcast(norm, x), torch.log(ratio) / 4, *labels)
        return broadcast(c_skip, x) * u + broadcast(c_out, x) * output

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """s_θ(x, t) ≈ ∇_x log p_t(x), or ∇_x log p_t(x | y), shaped like x.

        Args:
            x: (B, ...).
            t: () or (B,).
            y: labels, (B,), −1 where there is none; for conditional networks only.
        """
        alpha, sigma = broadcast(self.process.alpha(t), x), broadcast(self.process.sigma(t), x)
        if self.prediction == "preconditioned":
            return (alpha * self.denoise(x, t, y) - x) / sigma**2
        told = self.process.sigma(t) if self.prediction == "score" else t
        labels = () if y is None else (y,)
        output = self.network(x, self.time_scale * told.expand(len(x)), *labels)
        if self.prediction == "score":
            return self.time_scale * output
        if self.prediction == "clean":
            return (alpha * output - x) / sigma**2
        if self.prediction == "velocity":
            output = (sigma * x + alpha * output) / (alpha**2 + sigma**2)
        return -output / sigma
