"""The uniform process: every token is redrawn uniformly over the vocabulary at rate sigma(t)."""

import dataclasses

import jax
import jax.numpy as jnp

from lsd_jax.processes.draws import as_uniform, random_bits, share_of
from lsd_jax.processes.noise import Noise, check_states
from lsd_jax.processes.potentials import ChainTransition
from lsd_jax.processes.soft import SOFT_FLOOR, hard_tokens, is_soft
from lsd_jax.processes.transition import Transition, jump_where


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Uniform diffusion over `vocab_size` tokens (SEDD's `Uniform` graph: Q = 1/S - identity).

    The log-score of the current token is log 1 = 0. Methods are documented in `processes/process.py`.
    """

    vocab_size: int
    noise: Noise

    def __post_init__(self):
        check_states(self.vocab_size, self.noise)

    name = "uniform"
    jumps_once = False
    longest = None
    ordered = False
    score_is_posterior = False

    @property
    def num_states(self) -> int:
        return self.vocab_size

    def keep_and_move(self, sigma_bar: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The forward probabilities of keeping a token and of moving to one given other token."""
        move = -jnp.expm1(-sigma_bar) / self.vocab_size
        return 1 - (self.vocab_size - 1) * move, move

    def prior_sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.randint(key, shape, 0, self.vocab_size)

    def prior_log_prob(self, x: jax.Array) -> jax.Array:
        return jnp.full(x.shape[:-1], -x.shape[-1] * jnp.log(self.vocab_size))

    def prior_kl(self, x0_BL: jax.Array) -> jax.Array:
        probs_S = self.marginal(jnp.zeros((), jnp.int32), jnp.ones(()))
        kl = (probs_S * jnp.log(probs_S * self.vocab_size)).sum()
        return jnp.full(x0_BL.shape[0], x0_BL.shape[1] * kl)

    def corrupt(self, key: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        key_move, key_token = jax.random.split(key)
        move = jax.random.uniform(key_move, x0.shape) < -jnp.expm1(-self.noise.sigma_bar(t))
        token = jax.random.randint(key_token, x0.shape, 0, self.vocab_size)
        return jnp.where(move, token, x0)

    def path_uniforms(self, key: jax.Array, length: int) -> jax.Array:
        """Random bits (2, L) of one sequence: whether a position moves, and where to."""
        return random_bits(key, (2, length))

    def noised(self, uniforms: jax.Array, x0_BL: jax.Array, t: jax.Array) -> jax.Array:
        token_BL = share_of(uniforms[:, 1], self.vocab_size).astype(jnp.int32)
        return jnp.where(as_uniform(uniforms[:, 0]) < -jnp.expm1(-self.noise.sigma_bar(t)), token_BL, x0_BL)

    def marginal(self, x0: jax.Array, t: jax.Array) -> jax.Array:
        alpha = jnp.exp(-self.noise.sigma_bar(t))[..., None]
        return alpha * jax.nn.one_hot(x0, self.vocab_size) + (1 - alpha) / self.vocab_size

    def log_likelihood(self, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        sigma_bar = self.noise.sigma_bar(t)
        if is_soft(x_BL):
            stay, move = self.keep_and_move(sigma_bar)
            return jnp.log(move + (stay - move) * x_BL + SOFT_FLOOR)
        move = -jnp.expm1(-sigma_bar) / self.vocab_size
        here_BLS = jax.nn.one_hot(x_BL, self.vocab_size) > 0
        return jnp.where(here_BLS, jnp.log1p(-(self.vocab_size - 1) * move), jnp.log(move))

    def forward_log_prob(self, x_BL: jax.Array, earlier_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        stay, move = self.keep_and_move(self.noise.sigma_bar(t) - self.noise.sigma_bar(u))
        return jnp.where(x_BL == earlier_BL, jnp.log(stay), jnp.log(move))

    def bridge(self, x_BL: jax.Array, x0_BL: jax.Array, t: jax.Array, u: jax.Array) -> Transition:
        data_BLS = jax.nn.one_hot(x0_BL, self.vocab_size) > 0
        here_BLS = jax.nn.one_hot(x_BL, self.vocab_size) > 0
        stay_u, move_u = self.keep_and_move(self.noise.sigma_bar(u))
        stay_tu, move_tu = self.keep_and_move(self.noise.sigma_bar(t) - self.noise.sigma_bar(u))
        weight_BLS = jnp.where(data_BLS, stay_u, move_u) * jnp.where(here_BLS, stay_tu, move_tu)
        probs_BLS = weight_BLS / weight_BLS.sum(-1, keepdims=True)
        jump_BL = jnp.where(here_BLS, 0.0, probs_BLS).sum(-1)
        # Where nothing can move, at u = 0, the destinations are never read, but must still be a distribution.
        log_destination_BLS = jnp.where(here_BLS & (jump_BL > 0)[..., None], -jnp.inf, jnp.log(probs_BLS))
        return Transition(x_BL, jnp.log1p(-jump_BL), log_destination_BLS)

    def rate_matrix(self) -> jax.Array:
        return jnp.full((self.vocab_size, self.vocab_size), 1 / self.vocab_size) - jnp.eye(self.vocab_size)

    def reverse_base_rate(self, x: jax.Array) -> jax.Array:
        """Q(v, x) for every token v != x, (..., S), 0 at v = x."""
        return (1 - jax.nn.one_hot(x, self.vocab_size)) / self.vocab_size

    def add_forward(self, mean_BLS: jax.Array, x_BL: jax.Array, scale: jax.Array) -> jax.Array:
        return mean_BLS + scale * self.reverse_base_rate(x_BL)  # Q is symmetric

    def log_score(self, log_posterior_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """The ratio of sum_y p(y) q_t(v | y) / q_t(x | y) to its value at v = x (SEDD, Lou et al. 2024, eq. 3)."""
        stay, move = self.keep_and_move(self.noise.sigma_bar(t))
        here = jax.nn.one_hot(hard_tokens(x_BL), self.vocab_size)
        weight = jnp.where(here > 0, jnp.exp(log_posterior_BLS) / stay, jnp.exp(log_posterior_BLS) / move)
        score = move * weight.sum(-1, keepdims=True) + (stay - move) * weight
        return jnp.where(here > 0, 0.0, jnp.log(score))

    def log_score_of_mean(self, log_mean_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """The ratio of alpha p(v) + (1 - alpha) / S to its value at the current token.

        The mean is the x_theta of UDLM and Duo (Sahoo et al. 2025, eq. 4), which stands for x_0 in q(x_t | x_0).
        """
        alpha = jnp.exp(-self.noise.sigma_bar(t))
        log_marginal_BLS = jnp.log(alpha * jnp.exp(log_mean_BLS) + (1 - alpha) / self.vocab_size)
        return log_marginal_BLS - jnp.take_along_axis(log_marginal_BLS, hard_tokens(x_BL)[..., None], -1)

    def possible(self, logits_BLS: jax.Array) -> jax.Array:
        return logits_BLS

    def check_length(self, length: int) -> None:
        del length

    def log_score_of_sedd(self, logits_BLS: jax.Array, x_BL: jax.Array, sigma_bar: jax.Array) -> jax.Array:
        """SEDD's output, set to 0 at the current token."""
        del sigma_bar
        return jnp.where(jax.nn.one_hot(hard_tokens(x_BL), self.vocab_size) > 0, 0.0, logits_BLS)

    def log_concrete_score(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        del x_BL, t
        return log_score_BLS

    def masked(self, x: jax.Array, log_score_BLS: jax.Array) -> jax.Array:
        """The log-score as it is: every position is read."""
        del x
        return log_score_BLS

    def step_probs(self, log_score_BLS: jax.Array, x_BL: jax.Array, delta_sigma_bar: jax.Array) -> jax.Array:
        """SEDD's analytic step (eq. 19): the staggered score times the forward transition, kept above 0, (B, L, S)."""
        here = jax.nn.one_hot(hard_tokens(x_BL), self.vocab_size)
        score = jnp.where(here > 0, 1.0, jnp.exp(log_score_BLS))
        stay, move = self.keep_and_move(delta_sigma_bar)
        grow = jnp.expm1(delta_sigma_bar)
        staggered = (1 + grow) * score - grow / self.vocab_size * score.sum(-1, keepdims=True)
        # Rounding or a learned factor may take it below zero; a tiny probability keeps the cost of that token finite.
        kept = jnp.maximum(staggered, 1e-9 * (1 + grow))
        return jnp.where(here > 0, stay * kept, move * kept)

    def log_clean(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        return jnp.log(self.step_probs(log_score_BLS, x_BL, self.noise.sigma_bar(t)))

    def settle(self, x_BL: jax.Array, log_clean_BLS: jax.Array) -> Transition:
        return self.jump(x_BL, jax.nn.log_softmax(log_clean_BLS))

    def jump(self, x_BL: jax.Array, log_mass_BLS: jax.Array) -> Transition:
        return jump_where(x_BL, log_mass_BLS)

    def euler_log_mass(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        del x_BL
        return log_score_BLS + jnp.log((t - u) * self.noise.sigma(t) * (1.0 / self.vocab_size))

    def tweedie_log_mass(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        """The analytic step's probabilities, normalized."""
        probs_BLS = self.step_probs(log_score_BLS, x_BL, self.noise.sigma_bar(t) - self.noise.sigma_bar(u))
        return jnp.log(probs_BLS) - jnp.log(probs_BLS.sum(-1, keepdims=True))

    def ancestral_log_mass(
        self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array, factor: jax.Array | float
    ) -> jax.Array:
        """The bridge averaged over the posterior; the coefficient has acted on the score, so `factor` is not read again."""
        del factor
        posterior_BLS = self.step_probs(log_score_BLS, x_BL, self.noise.sigma_bar(t))
        stay_t, move_t = self.keep_and_move(self.noise.sigma_bar(t))
        stay_u, move_u = self.keep_and_move(self.noise.sigma_bar(u))
        stay_tu, move_tu = self.keep_and_move(self.noise.sigma_bar(t) - self.noise.sigma_bar(u))
        here_BLS = jax.nn.one_hot(x_BL, self.vocab_size) > 0
        weight_BLS = jnp.where(here_BLS, posterior_BLS / stay_t, posterior_BLS / move_t)
        back_BLS = move_u * weight_BLS.sum(-1, keepdims=True) + (stay_u - move_u) * weight_BLS
        log_mass_BLS = jnp.log(jnp.where(here_BLS, back_BLS * stay_tu, back_BLS * move_tu))
        return jax.nn.log_softmax(log_mass_BLS)

    def coupled(self, transition: Transition, log_potential_DSS: jax.Array) -> Transition:
        """Potentials between neighbors act on the whole distribution of every position, staying included."""
        fields = transition.x_BL, transition.log_stay_BL, transition.log_destination_BLS
        return ChainTransition(*fields, log_potential_DSS[0])
