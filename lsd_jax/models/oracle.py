"""Exact denoisers: p(x_0 = v at i | x_t) without a network, so that a sampler's error is all its own.

`markov_log_posterior` serves any first-order Markov chain by forward-backward. `enumerated_log_posterior` serves any distribution
on a tiny state space. Both serve every process through its likelihood q(x_t | x_0).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.processes.process import Process
from lsd_jax.processes.soft import is_soft

LogPosteriorFn = Callable[[jax.Array, jax.Array], jax.Array]


def markov_log_posterior(process: Process, initial: np.ndarray, transition: np.ndarray) -> LogPosteriorFn:
    """The exact denoiser of a first-order Markov chain, as a function of (x_BL, t) -> (B, L, S).

    Args:
        initial: distribution of the first token (S,).
        transition: row-stochastic matrix (S, S).

    Raises:
        ValueError: wrong shapes, or a zero probability: a context that contradicts itself, as a few-step sampler
            makes them, would have no posterior. Mix the chain with a little of the uniform distribution.
    """
    S = process.vocab_size
    if initial.shape != (S,) or transition.shape != (S, S):
        raise InputError(f"a chain over {S} tokens needs shapes ({S},) and ({S}, {S})")
    if initial.min() <= 0 or transition.min() <= 0:
        raise InputError("mix=0: must be positive for the exact oracle, since contexts can contradict themselves")
    forward = jnp.asarray(transition, jnp.float32)
    log_initial = jnp.asarray(np.log(initial), jnp.float32)

    def propagate(log_message_BS: jax.Array, matrix: jax.Array) -> jax.Array:
        # A product in log space: the largest entry is taken out, so nothing that matters underflows.
        top_B1 = log_message_BS.max(-1, keepdims=True)
        return jnp.log(jnp.matmul(jnp.exp(log_message_BS - top_B1), matrix, precision="highest"))

    def log_posterior_fn(x_BL: jax.Array, t: jax.Array) -> jax.Array:
        if process.jumps_once and not is_soft(x_BL):
            return _between_revealed(process, initial, transition, x_BL)
        evidence_LBS = jnp.swapaxes(process.log_likelihood(x_BL, t), 0, 1)

        def step(carry, evidence):
            past_BS, future_BS = carry
            evidence_forward, evidence_backward = evidence
            following = propagate(past_BS + evidence_forward, forward)
            preceding = propagate(future_BS + evidence_backward, forward.T)
            return (following, preceding), (past_BS, future_BS)

        start = (jnp.broadcast_to(log_initial, evidence_LBS.shape[1:]), jnp.zeros(evidence_LBS.shape[1:]))
        _, (past_LBS, future_LBS) = jax.lax.scan(step, start, (evidence_LBS, evidence_LBS[::-1]))
        return jax.nn.log_softmax(jnp.swapaxes(past_LBS + evidence_LBS + future_LBS[::-1], 0, 1))

    return log_posterior_fn


def _between_revealed(process: Process, initial: np.ndarray, transition: np.ndarray, x_BL: jax.Array) -> jax.Array:
    """The posterior under masks: of all that is revealed, only the nearest token on either side counts.

    Powers of the transition matrix, read at the distances to the two: no scan over positions.
    """
    L, S = x_BL.shape[1], process.vocab_size
    powers_LSS, marginals_LS = [np.eye(S)], [np.asarray(initial, np.float64)]
    for _ in range(L - 1):
        powers_LSS.append(powers_LSS[-1] @ transition)
        marginals_LS.append(marginals_LS[-1] @ transition)
    log_powers_LSS = jnp.asarray(np.log(np.maximum(powers_LSS, 1e-300)), jnp.float32)
    log_marginals_LS = jnp.asarray(np.log(marginals_LS), jnp.float32)
    place_L, revealed_BL = jnp.arange(L), x_BL != process.mask
    left_BL = jax.lax.cummax(jnp.where(revealed_BL, place_L[None], -1), axis=1)
    right_BL = jax.lax.cummin(jnp.where(revealed_BL, place_L[None], L), axis=1, reverse=True)
    token = lambda place_BL: jnp.take_along_axis(x_BL, jnp.clip(place_BL, 0, L - 1), 1)
    from_left_BLS = log_powers_LSS[jnp.clip(place_L[None] - left_BL, 0, L - 1), token(left_BL)]
    from_left_BLS = jnp.where((left_BL >= 0)[..., None], from_left_BLS, log_marginals_LS[None])
    to_right_BLS = jnp.swapaxes(log_powers_LSS, 1, 2)[jnp.clip(right_BL - place_L[None], 0, L - 1), token(right_BL)]
    to_right_BLS = jnp.where((right_BL < L)[..., None], to_right_BLS, 0.0)
    posterior_BLS = jax.nn.log_softmax(from_left_BLS + to_right_BLS)
    seen_BLS = jnp.where(jax.nn.one_hot(x_BL, S) > 0, 0.0, -jnp.inf)
    return jnp.where(revealed_BL[..., None], seen_BLS, posterior_BLS)


def enumerated_log_posterior(process: Process, probs: np.ndarray, length: int) -> LogPosteriorFn:
    """The exact denoiser of any distribution on S^length sequences, `probs` in the order of `all_sequences`.

    Raises:
        ValueError: `probs` has not S^length entries.
    """
    sequences_NL = all_sequences(process.vocab_size, length)
    if probs.shape != (len(sequences_NL),):
        raise InputError(f"a distribution on {process.vocab_size}^{length} sequences has {len(sequences_NL)} entries")
    log_probs_N = jnp.log(jnp.asarray(probs))  # float64 where it is on
    one_hot_NLS = jax.nn.one_hot(sequences_NL, process.vocab_size)

    def log_posterior_fn(x_BL: jax.Array, t: jax.Array) -> jax.Array:
        evidence_BLS = jnp.maximum(process.log_likelihood(x_BL, t), -1e30)
        joint_BN = log_probs_N[None] + jnp.einsum("bls,nls->bn", evidence_BLS, one_hot_NLS, precision="highest")
        weight_BN = jax.nn.softmax(joint_BN)
        posterior_BLS = jnp.einsum("bn,nls->bls", weight_BN, one_hot_NLS, precision="highest")
        if is_soft(x_BL):
            posterior_BLS = jnp.maximum(posterior_BLS, jnp.finfo(posterior_BLS.dtype).tiny)
        return jnp.log(posterior_BLS)

    return log_posterior_fn


def all_sequences(vocab_size: int, length: int) -> np.ndarray:
    """Every sequence (S^length, length), the last position changing fastest."""
    grids = np.meshgrid(*[np.arange(vocab_size)] * length, indexing="ij")
    return np.stack(grids, -1).reshape(-1, length)
