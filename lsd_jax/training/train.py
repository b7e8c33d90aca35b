"""Trains a score network, or the autoregressive scorer, on one or many devices; resumable at any moment."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from absl import logging

from lsd_jax import checkpoints, parallel
from lsd_jax.data import loader
from lsd_jax.models import weights
from lsd_jax.models.score_fn import sedd_log_score, told_time
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.score import Process
from lsd_jax.progress import MetricWriter, Progress
from lsd_jax.training import losses

_FINAL_DRAWS = 8  # of noise a validation sequence, once training is over: the number goes on the card
LOSSES = ("denoising", "score_entropy", "autoregressive")


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """What a training step changes."""

    step: jax.Array
    params: Any
    ema: Any
    optimizer: Any


@dataclasses.dataclass(frozen=True)
class SequenceLoss:
    """The loss `name` of every sequence in nats, (B,), from (params, (tokens, times, keys)).

    Raises:
        ValueError: unknown name.
    """

    name: str
    model: Any
    process: Process

    def __post_init__(self):
        if self.name not in LOSSES:
            raise ValueError(f"config.training.loss={self.name!r}: choose one of {LOSSES}")

    def __call__(self, params, batch: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        x0_BL, t_B, key_B = batch
        logits_fn = functools.partial(self.model.apply, params)
        if isinstance(self.process, DiscretizedGaussian):
            network = lambda x_BL, t_B: logits_fn(x_BL, told_time(self.model, self.process, t_B))  # noqa: E731
            return losses.posterior_loss(network, self.process, key_B, t_B, x0_BL)
        if self.name == "denoising":
            return losses.denoising_loss(logits_fn, self.process, key_B, t_B, x0_BL)
        if self.name == "score_entropy":

            def log_score_fn(x_BL, sigma_bar_B):
                return sedd_log_score(self.process, logits_fn(x_BL, sigma_bar_B), x_BL, sigma_bar_B)

            return losses.score_entropy_loss(log_score_fn, self.process, key_B, t_B, x0_BL)
        return losses.autoregressive_loss(logits_fn, self.model.config.vocab_size, x0_BL)


def make_optimizer(training: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """AdamW with clipping; the rate warms up, stays, then falls linearly to zero over the last `decay_share`."""
    decay = max(int(training.steps * training.decay_share), 1)
    warmup = min(training.warmup_steps, training.steps - decay)
    rate = optax.join_schedules(
        [
            optax.linear_schedule(0.0, training.learning_rate, warmup),
            optax.constant_schedule(training.learning_rate),
            optax.linear_schedule(training.learning_rate, 0.0, decay),
        ],
        [warmup, training.steps - decay],
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(rate, b2=0.98, weight_decay=training.weight_decay),
    )


def train(
    data: ml_collections.ConfigDict,
    training: ml_collections.ConfigDict,
    model_config: weights.Sizes,
    process: Process,
    folder: pathlib.Path,
    seed: int,
) -> tuple[Any, dict[str, float]]:
    """Trains to `training.steps` steps, from the newest checkpoint in `folder` if there is one.

    Returns:
        The EMA parameters, and the validation loss in bits a token with its standard error.
    """
    mesh = parallel.data_mesh()
    if training.batch_size % (mesh.size * training.microbatch):
        raise ValueError(
            f"config.training.batch_size={training.batch_size} is not divisible by config.training.microbatch="
            f"{training.microbatch} times {mesh.size} devices"
        )
    model, optimizer = weights.network(model_config), make_optimizer(training)
    loss_fn = SequenceLoss(training.loss, model, process)
    key_init, key_train, key_valid = jax.random.split(jax.random.key(seed), 3)

    params = weights.initial(model_config, key_init)
    state = TrainState(jnp.zeros((), jnp.int32), params, params, optimizer.init(params))
    state = parallel.replicate(state, mesh)
    iterator = loader.training_iterator(data, training.batch_size // jax.process_count(), seed)

    def bits_per_token(params, frozen, batch):
        del frozen
        return loss_fn(params, batch).mean() / data.sequence_length / jnp.log(2)

    value_and_grad = parallel.value_and_grad_over_data(bits_per_token, mesh, training.microbatch)

    @functools.partial(jax.jit, donate_argnums=0)
    def step_fn(state: TrainState, x0_BL: jax.Array) -> tuple[TrainState, jax.Array]:
        batch = with_noise(jax.random.fold_in(key_train, state.step), x0_BL)
        loss, grads = value_and_grad(state.params, (), batch)
        updates, opt_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        # A young average follows closely, an old one slowly.
        decay = jnp.minimum(training.ema_decay, (1.0 + state.step) / (10.0 + state.step))
        ema = jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, state.ema, params)
        return TrainState(state.step + 1, params, ema, opt_state), loss

    manager = checkpoints.Manager(folder / "checkpoints", keep=2)
    state, iterator = manager.restore_latest(state, iterator)
    start = int(state.step)
    logging.info("training %s: %d parameters, steps %d to %d", training.loss, _count(params), start, training.steps)
    valid = loader.load_split(data, "validation")[: training.validation_sequences]
    evaluate = functools.partial(validation_bits, jax.jit(loss_fn), key_valid, valid)
    progress, writer = Progress("train", training.steps, start, every=30.0), MetricWriter(folder)
    with checkpoints.StopSignal() as stop:
        for step in range(start, training.steps):
            state, loss = step_fn(state, parallel.shard_batch(next(iterator), mesh))
            done = step + 1
            if done % 50 == 0 or done == training.steps:
                progress(done, bits=loss)
                writer(done, loss_bits=loss)
            if done % training.checkpoint_every == 0 or done == training.steps or stop.requested:
                manager.save(done, state, iterator)
            if done % training.validate_every == 0 and done < training.steps:
                bits, error = evaluate(state.ema)
                logging.info("step %d: validation %.4f +- %.4f bits a token", done, bits, error)
                writer(done, validation_bits=bits)
            if stop.requested:
                manager.close()
                writer.close()
                raise SystemExit(f"stopped at step {done}; run the same command again to go on")
    manager.close()
    bits, error = evaluate(state.ema, draws=_FINAL_DRAWS)
    writer(training.steps, validation_bits=bits)
    writer.close()
    return jax.device_get(state.ema), {"validation_bits": bits, "standard_error": error}


def with_noise(key: jax.Array, x0_BL: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The batch (tokens, antithetic times, one key a sequence) that the losses take."""
    key_time, key_noise = jax.random.split(key)
    batch = x0_BL.shape[0]
    return x0_BL, losses.antithetic_times(key_time, batch), jax.random.split(key_noise, batch)


def validation_bits(
    loss_fn, key: jax.Array, sequences: np.ndarray, params, draws: int = 1, batch_size: int = 64
) -> tuple[float, float]:
    """Mean loss in bits a token over `sequences`, `draws` noise draws each, and its standard error over sequences."""
    batch_size = min(batch_size, len(sequences))
    starts = range(0, len(sequences) - batch_size + 1, batch_size)
    values = []
    for draw in range(draws):
        for start in starts:
            batch = jnp.asarray(sequences[start : start + batch_size], jnp.int32)
            noisy = with_noise(jax.random.fold_in(jax.random.fold_in(key, draw), start), batch)
            values.append(np.asarray(loss_fn(params, noisy)))
    bits = np.concatenate(values).reshape(draws, -1).mean(0) / sequences.shape[1] / np.log(2)
    return float(bits.mean()), float(bits.std() / np.sqrt(len(bits)))


def _count(params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
