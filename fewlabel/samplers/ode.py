"""The probability-flow ODE by an adaptive Runge–Kutta method."""

from collections.abc import Callable

from torch import Tensor

from fewlabel.process import Process
from fewlabel.score import ScoreFunction

__all__ = ["integrate", "probability_flow"]


def integrate(
    slope: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    ends: Tensor,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    """Solve dx/dτ = slope(τ, x) by the fifth-order pair of Dormand & Prince 1980.

    The steps are shared by the batch and as small as its most demanding sample needs: each sample
    by itself has root-mean-square errors of at most atol + rtol |x| a step. So another split into
    batches changes the result within the tolerance.

    Args:
        slope: (τ: (), x: (B, ...)) → dx/dτ, shaped like x; never asked far outside the ends.
        x: the state at ends[0], (B, ...).
        ends: where to begin and where to end, (2,).
        rtol: relative tolerance.
        atol: absolute tolerance.

    Returns:
        The state at ends[1], shaped like x.
    """
    from torchdiffeq import odeint  # loads scipy

    options = {"norm": _worst_of_the_batch, "step_t": ends[1:]}  # a step ends there, none passes
    return odeint(slope, x, ends, rtol=rtol, atol=atol, method="dopri5", options=options)[-1]


def probability_flow(score: ScoreFunction, process: Process, x: Tensor, times: Tensor) -> Tensor:
    """Integrate du/dℓ = −r σ s(αu, t), u = x/α, ℓ = log r, to a tolerance of 1e-5 a step.

    It is dx = [f x − ½ g² s] dt (Song et al. 2021, arXiv 2011.13456, section 4.3) in coordinates
    in which it is equally stiff everywhere and for every process. Order 5 with a step size of its
    own; six evaluations a step, also if the step is refused, and two to begin with. See
    `integrate` for what it means that a batch shares its steps.

    Args:
        score: the score function to follow.
        process: its noise process.
        x: samples at times[0], (B, ...).
        times: decreasing, (N,); only the first and the last matter.

    Returns:
        The samples at times[-1], shaped like x.
    """

    def slope(log_ratio: Tensor, u: Tensor) -> Tensor:
        ratio = log_ratio.exp()
        t = process.time_at(ratio)
        return -ratio * process.sigma(t) * score(process.alpha(t) * u, t)

    ends = times[[0, -1]]
    alpha = process.alpha(ends)
    return alpha[1] * integrate(slope, x / alpha[0], process.noise_ratio(ends).log())


def _worst_of_the_batch(errors: Tensor) -> Tensor:
    return errors.flatten(1).square().mean(1).sqrt().max()
