"""The control of pair potentials on countdown: what a table of bigrams says with no network at all, 0 NFE.

python -m measurements.bigram --output=FILE.json

A first-order chain with the counts of the sequences that potentials are fitted on (half a count added to every transition),
and its exact divergence from countdown's own chain: KL(data, samples) in nats per sequence.
"""

import argparse
import pathlib
import sys

import numpy as np

from lsd_jax.configs import ablation_uniform_potentials
from lsd_jax.distill.distill import potential_rows
from lsd_jax.experiment.records import revision, write_json
from lsd_jax.tasks.chain_laws import Chain
from lsd_jax.tasks.chains import Countdown
from lsd_jax.tasks.task import Data


def counted_chain(tokens_NL: np.ndarray, vocab_size: int) -> Chain:
    """The chain that sequences suggest, half a count added everywhere: first distribution (S,), transition matrix (S, S)."""
    initial = np.bincount(tokens_NL[:, 0], minlength=vocab_size) + 0.5
    pairs = tokens_NL[:, :-1].astype(np.int64) * vocab_size + tokens_NL[:, 1:]
    transition = np.bincount(pairs.ravel(), minlength=vocab_size**2).reshape(vocab_size, vocab_size) + 0.5
    return initial / initial.sum(), transition / transition.sum(1, keepdims=True)


def chain_kl(chain: Chain, other: Chain, length: int) -> float:
    """KL in nats of a Markov chain from another, over sequences of `length` tokens, exact."""
    (probs_S, transition), (other_probs_S, other_transition) = chain, other
    total = float((probs_S * np.log(probs_S / other_probs_S)).sum())
    rows = transition * np.log(transition / other_transition)
    for _ in range(length - 1):
        total += float(probs_S @ rows.sum(1))
        probs_S = probs_S @ transition
    return total


def main(argv: list[str] | None = None) -> None:
    """Prints the divergence for every seed of the ablation and writes the record."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=pathlib.Path, help="JSON file to write")
    args = parser.parse_args(argv)
    config = ablation_uniform_potentials.get_config()
    task = Countdown(Data(**config.data))
    sequences, values = ablation_uniform_potentials.SEQUENCES, []
    for seed in config.seeds:
        tokens = potential_rows(task.split("train"), seed, sequences)
        values.append(chain_kl((task.initial, task.transition), counted_chain(tokens, task.vocab_size), task.length))
        print(f"seed {seed}: {values[-1]:.3f} nats per sequence with 0 network evaluations")
    record = {
        "command": " ".join(["python -m measurements.bigram", *argv]),
        "revision": revision(),
        "seeds": list(config.seeds),
        "sequences": sequences,
        "nfe": 0,
        "kl_nats": values,
    }
    write_json(args.output, record)


if __name__ == "__main__":
    main()
