"""Exact denoisers and pair potentials ask for full precision: an accelerator's default would round their products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models import oracle
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.potentials import tilted_chain
from lsd_jax.processes.process import make_process

S, L = 3, 4
CHAIN = np.full(S, 1 / S), np.full((S, S), 1 / S)
TOKENS = jnp.zeros((2, L), jnp.int32)


def products(function, *arguments):
    """The precisions of every matrix product of a program, also inside loops and calls."""
    found = []

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                found.append(equation.params["precision"])
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
                if hasattr(inner, "jaxpr"):
                    visit(inner.jaxpr)
                elif hasattr(inner, "eqns"):
                    visit(inner)

    visit(jax.make_jaxpr(function)(*arguments).jaxpr)
    return found


def exact(name, kind):
    process = make_process(name, S, LogLinear())
    if kind == "chain":
        return oracle.markov_log_posterior(process, *CHAIN)
    return oracle.enumerated_log_posterior(process, np.full(S**L, S**-L), L)


@pytest.mark.parametrize(("name", "kind"), [("uniform", "chain"), ("uniform", "all"), ("absorbing", "all")])
def test_exact_denoisers(name, kind):
    found = products(exact(name, kind), TOKENS, jnp.float32(0.5))
    assert found and all(precision == (jax.lax.Precision.HIGHEST,) * 2 for precision in found)


def test_pair_potentials():
    log_probs, potential = jnp.full((2, L, S), -np.log(S)), jnp.zeros((S, S))
    divergence = lambda log_probs, potential: tilted_chain(log_probs, potential).kl_from(jnp.exp(log_probs))
    found = products(divergence, log_probs, potential)
    assert len(found) == 3 and all(precision == (jax.lax.Precision.HIGHEST,) * 2 for precision in found)
