"""Classifiers of noisy samples, and the one place that differentiates with respect to them.

The logits f(x, t) in R^K define three things at once:

    log p(y|x,t)              = f_y − logsumexp f            log_prob
    g(x,t,y)                  = ∇_x log p(y|x,t)             likelihood_score
    s_φ(x,t)                  = ∇_x logsumexp_y f(x,t)_y     internal_score

The last one is the score of the classifier read as an energy-based model (Grathwohl et al. 2020,
arXiv 1912.03263). It grows like 1/σ, which a plain network cannot follow, so the energy is
preconditioned: see `NoisyClassifier`.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewlabel.batch import labels_of
from fewlabel.errors import UserError
from fewlabel.process import Process, broadcast

__all__ = [
    "Energy",
    "NoisyClassifier",
    "chosen",
    "chosen_log_prob",
    "input_grad",
    "vector_jacobian",
]

Energy = Literal["scaled", "quadratic", "plain"]


def input_grad(
    logits: Callable[[Tensor], Tensor],
    reduce: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    create_graph: bool = False,
) -> Tensor:
    """∇_x reduce(logits(x)), sample by sample.

    Samples must not mix inside `logits` (GroupNorm, never BatchNorm): then the gradient of the
    sum over the batch is each sample's own gradient.

    Args:
        logits: (B, ...) → (B, K).
        reduce: (B, K) → (B,), for example a logsumexp.
        x: (B, ...); part of a graph only if one is being recorded, and then the gradient is too:
            the divergence of a guided score needs the derivative of the classifier's part.
        create_graph: keep the graph, so that a loss on the gradient can be differentiated.

    Returns:
        The gradient, shaped like x.
    """
    recorded = torch.is_grad_enabled() and x.requires_grad
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # other kernels: no double backward
        x = x if recorded else x.detach().requires_grad_()
        total = reduce(logits(x)).sum()
        (gradient,) = torch.autograd.grad(total, x, create_graph=create_graph or recorded)
    return gradient


def vector_jacobian(
    function: Callable[[Tensor], Tensor], x: Tensor, vectors: Tensor
) -> tuple[Tensor, Tensor]:
    """The value y = function(x) and vᵀ ∂y/∂x for each of the vectors, sample by sample.

    Args:
        function: (B, ...) → the same shape; samples must not mix inside.
        x: (B, ...).
        vectors: v, (P, B, ...).

    Returns:
        y, shaped like x, and the products, shaped like the vectors; neither holds a graph.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        x = x.detach().requires_grad_()
        y = function(x)
        products = [torch.autograd.grad(y, x, v, retain_graph=True)[0] for v in vectors]
    return y.detach(), torch.stack(products)


def chosen(values: Tensor, y: int | Tensor) -> Tensor:
    """The value of the class y for values (B, K) and labels () or (B,); shape (B,).

    Raises:
        UserError: for another number of labels.
    """
    return values.gather(-1, labels_of(y, values)[:, None])[:, 0]


def chosen_log_prob(logits: Tensor, y: int | Tensor) -> Tensor:
    """The log-probability log_softmax(f)_y for logits (B, K) and labels () or (B,); (B,).

    Raises:
        UserError: for another number of labels.
    """
    return chosen(logits.log_softmax(-1), y)


class NoisyClassifier(nn.Module):
    """A noise-conditional classifier with a preconditioned energy.

    With u = x/α, r = σ/α, σ_d the data's standard deviation and h the network's output,

        f(x, t) = c(r) h(u/√(r²+σ_d²), ¼ log r) − ½ ‖u‖²/(r²+σ_d²)

    The quadratic term is the same for all classes and cancels in p(y|x,t), up to rounding; its
    gradient is the score of a Gaussian with the data's variance. What is left of the score has
    size σ_d/(r√(r²+σ_d²)), so with c(r) = √(1 + σ_d²/r²) the network's own gradient is
    σ_d/√(r²+σ_d²): of order one up to r ≈ σ_d, and smaller above.

    Args:
        network: h(u, c_noise) → (B, K) for u (B, ...) and c_noise (B,), as in `ScoreModel`.
        process: the noise process.
        sigma_data: standard deviation of the data, greater than 0.
        energy: "scaled" as above; "quadratic" with c = 1; "plain" is f = h, the papers' form.

    Raises:
        UserError: for an unknown energy.
    """

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        sigma_data: float,
        energy: Energy = "scaled",
    ) -> None:
        super().__init__()
        if energy not in get_args(Energy):
            raise UserError(
                f"energy {energy!r} is unknown; choose one of {', '.join(get_args(Energy))}"
            )
        self.network = network
        self.process = process
        self.sigma_data = sigma_data
        self.energy = energy

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The logits f(x, t), (B, K), for x of shape (B, ...) and t of shape () or (B,)."""
        t = t.expand(len(x))
        ratio = self.process.noise_ratio(t)
        norm = torch.sqrt(ratio**2 + self.sigma_data**2)
        u = x / broadcast(self.process.alpha(t) * norm, x)
        output = self.network(u, torch.log(ratio) / 4)
        if self.energy == "plain":
            return output
        if self.energy == "scaled":
            output = output * (norm / ratio)[:, None]
        return output - u.flatten(1).square().sum(1, keepdim=True) / 2

    def log_prob(self, x: Tensor, t: Tensor) -> Tensor:
        """The log-probability log p(y|x,t) for every class, (B, K)."""
        return self(x, t).log_softmax(-1)

    def likelihood_score(
        self,
        x: Tensor,
        t: Tensor,
        y: int | Tensor,
        temperature: float = 1.0,
        create_graph: bool = False,
    ) -> Tensor:
        """g(x,t,y) = ∇_x log softmax(f(x,t)/T)_y for labels y, () or (B,); shaped like x.

        With `create_graph` a loss can be made of it.

        Raises:
            UserError: for another number of labels.
        """
        return input_grad(
            lambda x: self(x, t) / temperature,
            lambda f: chosen_log_prob(f, y),
            x,
            create_graph=create_graph,
        )

    def class_score(self, x: Tensor, t: Tensor, y: int | Tensor) -> Tensor:
        """∇_x f(x,t)_y for labels y, () or (B,): the score of class y that the energy holds.

        Raises:
            UserError: for another number of labels.
        """
        return input_grad(lambda x: self(x, t), lambda f: chosen(f, y), x)

    def internal_score(self, x: Tensor, t: Tensor, create_graph: bool = False) -> Tensor:
        """s_φ(x,t) = ∇_x logsumexp_y f(x,t)_y; shaped like x.

        With `create_graph` a loss can be made of it.
        """
        return input_grad(
            lambda x: self(x, t), lambda f: f.logsumexp(-1), x, create_graph=create_graph
        )
