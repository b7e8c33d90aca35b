"""The control of neighbour potentials on countdown: what a table of bigrams says with no network at all, 0 NFE.

python -m benchmarks.bigram --output=FILE.json

A first-order chain with the counts of the sequences that potentials are fitted on (half a count added to every transition),
and its exact divergence from countdown's own chain: KL(data, samples) in nats a sequence.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

from configs import ablation_uniform_neighbours
from lsd_jax import ablation, experiment
from lsd_jax.workflow import neighbour_sequences, revision


def counted_chain(tokens_NL: np.ndarray, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The initial law (S,) and transition matrix (S, S) that sequences suggest, half a count added everywhere."""
    initial = np.bincount(tokens_NL[:, 0], minlength=vocab_size) + 0.5
    pairs = tokens_NL[:, :-1].astype(np.int64) * vocab_size + tokens_NL[:, 1:]
    transition = np.bincount(pairs.ravel(), minlength=vocab_size**2).reshape(vocab_size, vocab_size) + 0.5
    return initial / initial.sum(), transition / transition.sum(1, keepdims=True)


def chain_kl(chain: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], length: int) -> float:
    """KL in nats of a Markov chain from another, over sequences of `length` tokens, exact."""
    (law, transition), (other_law, other_transition) = chain, other
    total, rows = float((law * np.log(law / other_law)).sum()), transition * np.log(transition / other_transition)
    for _ in range(length - 1):
        total += float(law @ rows.sum(1))
        law = law @ transition
    return total


def main(argv: list[str] | None = None) -> None:
    """Prints the divergence for every seed of the ablation and writes the record."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=pathlib.Path, help="JSON file to write")
    args = parser.parse_args(argv)
    config = ablation_uniform_neighbours.get_config()
    entry = next(entry for entry in config.variants if entry[0] == ablation_uniform_neighbours.FREE)
    values = []
    for seed in config.seeds:
        own = ablation.resolve(config, entry, seed)
        tokens, _ = neighbour_sequences(own, None)
        found = counted_chain(tokens, own.data.vocab_size)
        values.append(chain_kl(experiment.chain_of(own), found, own.data.sequence_length))
        print(f"seed {seed}: {values[-1]:.3f} nats a sequence with 0 network evaluations")
    record = {
        "command": " ".join(["python -m benchmarks.bigram", *argv]),
        "revision": revision(),
        "seeds": list(config.seeds),
        "sequences": ablation_uniform_neighbours.SEQUENCES,
        "nfe": 0,
        "kl_nats": values,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
