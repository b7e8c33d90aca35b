import itertools

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.models.causal import autoregressive_loss


def test_autoregressive_loss_of_a_markov_chain():
    S = 4
    table = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (S + 1, S)))
    x0 = jnp.array([[2, 0, 3, 3], [1, 1, 0, 2]])
    found = autoregressive_loss(lambda x, t: 3.0 + table[x], S, x0)
    wanted = [-table[S, r[0]] - sum(table[p, n] for p, n in itertools.pairwise(r)) for r in np.asarray(x0)]
    np.testing.assert_allclose(found, np.array(wanted), rtol=1e-5)
