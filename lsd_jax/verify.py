"""`--stage=verify`: weights that load can still be wrong; a known likelihood tells."""

import pathlib

import jax
import ml_collections
import numpy as np

from lsd_jax import evaluation, experiment
from lsd_jax.data import loader
from lsd_jax.data.tokens import read_tokens


def verify(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> str:
    """Compares the network's perplexity on known sequences with `config.verify.perplexity`, and says so in one line.

    The perplexity is exp of the many-step bound in nats a token, which papers report for diffusion models. Sequences come
    from `config.verify.path`, or else are the data's test split.

    Raises:
        ValueError: no sequences, no known perplexity, or the network misses it.
    """
    settings, length = config.verify, config.data.sequence_length
    if not settings.perplexity > 0:
        raise ValueError(
            f"config.verify.perplexity={settings.perplexity}: name the perplexity that the weights should have"
        )
    if settings.path:
        rows = read_tokens(settings.path, config.data, "config.verify.path")
    else:
        rows = loader.load_split(config.data, "test")
    rows = rows[: settings.sequences]
    if not len(rows):
        raise ValueError(
            "config.verify.path is empty: name a text (with config.data.tokenizer) or .npy file to measure on"
        )
    backbone, process = experiment.backbone_of(config, workdir), experiment.process_of(config)
    key, batch = jax.random.fold_in(jax.random.key(config.seed), 9), config.evaluation.batch_size
    nats = evaluation.many_step_nats(backbone.model, process, key, rows, batch) / length
    found = float(np.exp(nats.mean()))
    error = found * float(nats.std() / np.sqrt(len(nats)))
    measured = f"perplexity {found:.4f} +- {error:.4f} on {len(rows)} sequences of {length} tokens"
    off = found / settings.perplexity - 1
    if not abs(off) <= settings.tolerance:
        raise ValueError(
            f"config.model.weights={config.model.weights!r}: {measured}, but {settings.perplexity:g} is known: {off:+.1%}, more "
            f"than config.verify.tolerance={settings.tolerance:g}; another checkpoint, other data, or wrongly read weights"
        )
    return f"verified: {measured}, {off:+.2%} from the known {settings.perplexity:g}"
