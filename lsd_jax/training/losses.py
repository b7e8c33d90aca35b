"""Training losses of score networks, in nats per sequence, (B,).

A network maps tokens (B, L) and times (B,) to (B, L, S). Every sequence brings its own time and key, so that a loss does not
depend on how a batch is cut over devices.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lsd_jax.models.causal import Network
from lsd_jax.processes.process import Process


@dataclasses.dataclass(frozen=True)
class GivenLabels:
    """A process whose noise leaves the first token of a share of the sequences as it is; all else is the process' own.

    Such a sequence trains the model of the rest, given its label; the others train that of both.
    """

    process: Process
    share: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self.process, name)

    def corrupt(self, key: jax.Array, x0_L: jax.Array, t: jax.Array) -> jax.Array:
        """Draws x_t of one sequence."""
        given = jax.random.uniform(jax.random.fold_in(key, 1)) < self.share
        label_L = jnp.arange(x0_L.shape[-1]) == 0
        return jnp.where(given & label_L, x0_L, self.process.corrupt(key, x0_L, t))


def antithetic_times(key: jax.Array, batch: int, eps: float = 1e-3) -> jax.Array:
    """Times (B,) in [eps, 1): one uniform shift of an even grid, which lowers the loss's variance (VDM, 2021)."""
    return eps + (1 - eps) * ((jnp.arange(batch) / batch + jax.random.uniform(key)) % 1)


def denoising_loss(network: Network, process: Process, key_B: jax.Array, t_B: jax.Array, x0_BL: jax.Array) -> jax.Array:
    """The continuous-time negative ELBO of masked diffusion (MDLM, Sahoo et al. 2024, eq. 10), where positions jump once;
    `network` gives logits."""
    x_BL = jax.vmap(process.corrupt)(key_B, x0_BL, t_B)
    nll_BL = optax.softmax_cross_entropy_with_integer_labels(process.possible(network(x_BL, t_B)), x0_BL)
    weight_B = process.noise.sigma(t_B) / jnp.expm1(process.noise.sigma_bar(t_B))
    return weight_B * jnp.where(x_BL == process.mask, nll_BL, 0.0).sum(-1)


def posterior_loss(network: Network, process: Process, key_B: jax.Array, t_B: jax.Array, x0_BL: jax.Array) -> jax.Array:
    """-log p(x_0 | x_t) at a random time, tauLDR's auxiliary term alone (Campbell et al. 2022, eq. 9); `network` gives logits.
    Its minimum is the exact denoiser; it is no bound."""
    x_BL = jax.vmap(process.corrupt)(key_B, x0_BL, t_B)
    return optax.softmax_cross_entropy_with_integer_labels(network(x_BL, t_B), x0_BL).sum(-1)


def score_entropy_loss(
    network: Network, process: Process, key_B: jax.Array, t_B: jax.Array, x0_BL: jax.Array
) -> jax.Array:
    """The denoising score entropy (SEDD, Lou et al. 2024, eq. 9), but for ordered states; `network` gives
    log-scores."""
    x_BL = jax.vmap(process.corrupt)(key_B, x0_BL, t_B)
    entropy_BL = score_entropy(process, network(x_BL, t_B), process.noise.sigma_bar(t_B), x_BL, x0_BL)
    return process.noise.sigma(t_B) * entropy_BL.sum(-1)


def score_entropy(
    process: Process, log_score_BLS: jax.Array, sigma_bar_B: jax.Array, x_BL: jax.Array, x0_BL: jax.Array
) -> jax.Array:
    """sum_v Q(v, x) [s_v - r_v log s_v + r_v (log r_v - 1)] with r the conditional score q(v | x0) / q(x | x0), (B, L)."""
    S = process.vocab_size
    sigma_bar = sigma_bar_B[:, None]
    if process.jumps_once:
        ratio = 1 / jnp.expm1(sigma_bar)
        cross = ratio * jnp.take_along_axis(log_score_BLS, x0_BL[..., None], -1)[..., 0]
        entropy = jnp.exp(log_score_BLS).sum(-1) - cross + ratio * (jnp.log(ratio) - 1)
        return jnp.where(x_BL == process.mask, entropy, 0.0)
    move = -jnp.expm1(-sigma_bar) / S
    stay = 1 - (S - 1) * move
    q_v = jnp.where(jax.nn.one_hot(x0_BL, S) > 0, stay[..., None], move[..., None])
    q_x = jnp.where(x0_BL == x_BL, stay, move)
    ratio_BLS = q_v / q_x[..., None]
    terms = jnp.exp(log_score_BLS) - ratio_BLS * log_score_BLS + ratio_BLS * (jnp.log(ratio_BLS) - 1)
    return (process.reverse_base_rate(x_BL) * terms).sum(-1)
