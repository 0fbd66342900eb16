"""The log-likelihood of a score function, by the probability-flow ODE.

In the coordinates u = x/α, ℓ = log(σ/α) the flow is du/dℓ = −r σ s(αu, t), and a density that
moves with it obeys d log p_u/dℓ = −∇·(du/dℓ) = σ² ∇·s. From t_min to t_max,

    log p_{t_min}(x) = log p_{t_max}(x_{t_max}) + D log(α_{t_max}/α_{t_min}) − ∫ σ² ∇·s dℓ

Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations",
arXiv 2011.13456, appendix D.2.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from fewlabel.classifier import vector_jacobian
from fewlabel.errors import UserError
from fewlabel.process import Process
from fewlabel.randomness import SampleRandom
from fewlabel.samplers.ode import integrate
from fewlabel.score import ScoreFunction

__all__ = ["bits_per_dimension", "log_likelihood"]


@torch.no_grad()
def log_likelihood(
    score: ScoreFunction,
    process: Process,
    x: Tensor,
    *,
    probes: int | Literal["exact"] = 1,
    seed: int = 0,
    first: int = 0,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    """The log-density log p_{t_min}(x) of a score function, guided or not, in nats.

    The divergence is estimated without bias as ∇·s = E vᵀ (∂s/∂x) v with random signs v
    (Hutchinson 1990; Grathwohl et al. 2019, "FFJORD", arXiv 1810.01367). Each sample keeps its
    signs v along the way, so the integrand is smooth; they depend on (seed, first + i) alone.

    Args:
        score: the score function; differentiable in x, samples must not mix in it.
        process: its noise process.
        x: data at t_min, (B, ...), floating point.
        probes: how many v a sample gets, at least 1; "exact" takes all D directions of space
            instead, which costs D derivatives an evaluation.
        seed: fixes the probes.
        first: index of the first sample of this batch in the whole set.
        rtol: relative tolerance of the solver; see `fewlabel.samplers.ode.integrate`.
        atol: absolute tolerance of the solver.

    Returns:
        Nats, (B,).

    Raises:
        UserError: for fewer probes than one.
    """
    if probes != "exact" and probes < 1:
        raise UserError(f"{probes} probes estimate nothing: give 1 or more, or exact")
    vectors = _directions(x) if probes == "exact" else _signs(x, probes, seed, first)

    def slope(log_ratio: Tensor, state: Tensor) -> Tensor:
        ratio = log_ratio.exp()
        t = process.time_at(ratio)
        sigma, at = process.sigma(t), process.alpha(t) * state[:, :-1].reshape(x.shape)
        value, products = vector_jacobian(lambda x: score(x, t), at, vectors)
        divergence = (vectors * products).flatten(2).mean(2).mean(0)  # per dimension
        return torch.cat([-ratio * sigma * value.flatten(1), -(sigma**2) * divergence[:, None]], 1)

    times = x.new_tensor([process.t_min, process.t_max])
    alpha = process.alpha(times)
    start = torch.cat([x.flatten(1) / alpha[0], x.new_zeros(len(x), 1)], 1)
    end = integrate(slope, start, process.noise_ratio(times).log(), rtol, atol)
    growth = x[0].numel() * (end[:, -1] + torch.log(alpha[1] / alpha[0]))
    return process.prior_log_density(alpha[1] * end[:, :-1]) + growth


def bits_per_dimension(log_likelihood: Tensor, dims: int) -> Tensor:
    """−log₂ p / D for a log-density in nats, any shape, and D = dims numbers a sample.

    Of data in [−1, 1]: images of 256 grey levels have log₂ 127.5 ≈ 6.99 more per dimension on
    the scale of their levels.
    """
    return -log_likelihood / (dims * math.log(2))


def _signs(x: Tensor, probes: int, seed: int, first: int) -> Tensor:
    """Independent random signs, (probes, B, ...)."""
    random = SampleRandom(seed, range(first, first + len(x)), "likelihood")
    return torch.stack([torch.ones_like(x).copysign(random.normal_like(x)) for _ in range(probes)])


def _directions(x: Tensor) -> Tensor:
    """√D e_i for every dimension, (D, B, ...): the mean of v_iᵀ A v_i is the trace of A."""
    dims = x[0].numel()
    basis = torch.eye(dims).to(x) * math.sqrt(dims)
    return basis.reshape(dims, 1, *x.shape[1:]).expand(-1, *x.shape)
