"""The probability-flow ODE by an adaptive Runge–Kutta method."""

from collections.abc import Callable

import torch
from torch import Tensor

from fewlabel.errors import TrainingError
from fewlabel.samplers.loop import Step

__all__ = ["integrate", "probability_flow"]


def integrate(
    slope: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    ends: Tensor,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    accepted: Callable[[Tensor, Tensor, Tensor], object] | None = None,
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
        accepted: called for each accepted step with (τ, x) at its beginning and its length.

    Returns:
        The state at ends[1], shaped like x.

    Raises:
        TrainingError: if a slope between the ends is not finite.
    """
    from torchdiffeq import odeint  # loads scipy

    def checked(time: Tensor, state: Tensor) -> Tensor:
        value = slope(time, state)
        inside = ends.min() <= time <= ends.max()  # a first guess of a step may end beyond
        if inside and not value.isfinite().all():  # no step size would be small enough
            raise TrainingError(
                f"the score is not finite at log σ/α = {float(time):.4g} of the probability-flow "
                "ODE: take a smaller guidance scale, or check the weights of the model"
            )
        return value

    if accepted is not None:
        checked.callback_accept_step = accepted  # type: ignore[attr-defined]
    options = {"norm": _worst_of_the_batch, "step_t": ends[1:]}  # a step ends there, none passes
    return odeint(checked, x, ends, rtol=rtol, atol=atol, method="dopri5", options=options)[-1]


def probability_flow(step: Step, s: Tensor) -> Tensor:
    """Integrate du/dℓ = −r σ s(αu, t), u = x/α, ℓ = log r, to a tolerance of 1e-5 a step.

    It is dx = [f x − ½ g² s] dt (Song et al. 2021, arXiv 2011.13456, section 4.3) in coordinates
    in which it is equally stiff everywhere and for every process. Order 5 with a step size of its
    own; six evaluations a step, also if the step is refused, and two to begin with. See
    `integrate` for what it means that a batch shares its steps.
    """
    process, ends = step.process, torch.stack([step.t, s])
    alpha, log_ratios = process.alpha(ends), process.noise_ratio(ends).log()

    def slope(log_ratio: Tensor, u: Tensor) -> Tensor:
        ratio = log_ratio.exp()
        t = process.time_at(ratio)
        return -ratio * process.sigma(t) * step.score_function(process.alpha(t) * u, t)

    def accepted(log_ratio: Tensor, u: Tensor, _: Tensor) -> None:
        share = (log_ratio - log_ratios[0]) / (log_ratios[1] - log_ratios[0])
        if share > 0:  # the first begins where the loop is
            t = process.time_at(log_ratio.exp()).to(step.t)
            step.between(process.alpha(t) * u, t, float(share))

    return alpha[1] * integrate(slope, step.x / alpha[0], log_ratios, accepted=accepted)


def _worst_of_the_batch(errors: Tensor) -> Tensor:
    return errors.flatten(1).square().mean(1).sqrt().max()
