"""What both kinds of pair potentials share: a table fitted by maximum a posteriori, kept where unseen sequences gain by it."""

from collections.abc import Callable

import jax

PRECISION = 0.2  # of a Gaussian prior on every potential: a standard deviation of 2.2


def split(count: int) -> int:
    """How many of `count` sequences a table is fitted on; the last quarter judges."""
    return count * 3 // 4


def fit_table(
    loss: Callable[[jax.Array, jax.Array], jax.Array], start: jax.Array, steps: int, learning_rate: float
) -> jax.Array:
    """The table that `steps` Adam steps on loss(table, step index) lead to from `start`, inside one program."""
    import optax  # where it is used: it takes a quarter of a second to import

    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def step(state, index):
        table, moments = state
        updates, moments = optimizer.update(jax.grad(loss)(table, index), moments)
        return (optax.apply_updates(table, updates), moments), None

    return jax.lax.scan(step, (start, optimizer.init(start)), jax.numpy.arange(steps))[0][0]
