"""Trains a score network, or the autoregressive scorer, on one or many devices; resumable at any moment."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from lsd_jax import checkpoints, parallel, shards
from lsd_jax.errors import InputError
from lsd_jax.models import backbones
from lsd_jax.models.causal import autoregressive_loss
from lsd_jax.models.model import network_time
from lsd_jax.processes.process import Process, mean_tokens
from lsd_jax.progress import MetricWriter, Progress
from lsd_jax.training import losses

_VALIDATED = 64  # sequences at a time
_FINAL_DRAWS = 8  # of noise per validation sequence, once training is over: the number goes on the card
LOSSES = ("denoising", "score_entropy", "autoregressive")


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    Attributes:
        loss: an entry of LOSSES; "autoregressive" trains a scorer.
        steps: of the optimizer.
        batch_size: sequences per step, over all devices.
        microbatch: sequences per pass on each device; small ones suit a CPU's caches.
        learning_rate, warmup_steps, decay_share, weight_decay: of `make_optimizer`.
        ema_decay: of the average of parameters that is kept.
        checkpoint_every, validate_every: in steps.
        validation_sequences: how many are read.
        given_labels: share of the sequences whose first token noise leaves as it is, for data that begin with a label. With 0 a label
            is noised as every token is, and is hardly ever seen where all else is masked, as it is when a sampler is asked for it.
    """

    loss: str = "denoising"
    steps: int = 9000
    batch_size: int = 64
    microbatch: int = 4
    learning_rate: float = 2e-3
    warmup_steps: int = 200
    decay_share: float = 0.25
    weight_decay: float = 0.1
    ema_decay: float = 0.999
    checkpoint_every: int = 250
    validate_every: int = 500
    validation_sequences: int = 512
    given_labels: float = 0.0


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

    "denoising" is the negative ELBO where positions jump once, and the posterior's cross-entropy elsewhere.

    Raises:
        ValueError: unknown name, or a loss that the process does not have.
    """

    name: str
    model: Any
    process: Process

    def __post_init__(self):
        if self.name not in LOSSES:
            raise InputError(f"loss={self.name!r}: choose one of {LOSSES}")
        if self.process.ordered and self.name != "denoising":
            raise InputError(f"loss={self.name!r}: the {self.process.name} process trains by 'denoising'")

    def __call__(self, params: Any, batch: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        x0_BL, t_B, key_B = batch
        if self.name == "autoregressive":
            network = functools.partial(shards.applied, self.model, params)
            return autoregressive_loss(network, self.process.vocab_size, x0_BL)
        time_input = getattr(self.model, "reads", "sigma_bar")

        def network(x_BL: jax.Array, t_B: jax.Array) -> jax.Array:
            return shards.applied(self.model, params, x_BL, network_time(self.process, time_input, t_B))

        def log_score_fn(x_BL: jax.Array, t_B: jax.Array) -> jax.Array:
            return self.process.log_score_of_sedd(network(x_BL, t_B), x_BL, self.process.noise.sigma_bar(t_B))

        if self.name == "score_entropy":
            return losses.score_entropy_loss(log_score_fn, self.process, key_B, t_B, x0_BL)
        loss = losses.denoising_loss if self.process.jumps_once else losses.posterior_loss
        return loss(network, self.process, key_B, t_B, x0_BL)


def make_optimizer(training: TrainingSettings) -> optax.GradientTransformation:
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
    training: TrainingSettings,
    sizes: backbones.Sizes,
    process: Process,
    batches: Iterator,
    validation: np.ndarray,
    folder: pathlib.Path,
    seed: int,
    given: Any = None,
) -> tuple[Any, dict[str, float]]:
    """Trains to `training.steps` steps, from the newest checkpoint in `folder` if there is one.

    Args:
        training: the settings.
        sizes: of the network.
        process: the noising process.
        batches: an endless grain iterator of tokens (batch_size / number of JAX processes, L), int32, this process's share;
            its state goes into the checkpoints.
        validation: sequences (n, L).
        folder: of checkpoints and metrics.
        seed: of initialization and noise.
        given: parameters to start from where there is no checkpoint; None: drawn.

    Returns:
        The EMA parameters, and the validation loss in bits per token with its standard error.

    Raises:
        ValueError: settings that do not go together.
    """
    mesh = parallel.data_mesh()
    if training.batch_size % (mesh.size * max(training.microbatch, 1)):
        raise InputError(
            f"batch_size={training.batch_size}: must be divisible by microbatch={training.microbatch} times {mesh.size} devices"
        )
    model, optimizer = backbones.network(sizes), make_optimizer(training)
    loss_fn = SequenceLoss(training.loss, model, process)
    key_init, key_train, key_valid = jax.random.split(jax.random.key(seed), 3)

    def initial(key: jax.Array, given: Any) -> TrainState:
        params = backbones.initial(sizes, key) if given is None else given
        return TrainState(jnp.zeros((), jnp.int32), params, params, optimizer.init(params))

    state = parallel.start(initial, mesh, key_init, given)
    valid = validation[: training.validation_sequences]
    valid = valid[: len(valid) // _VALIDATED * _VALIDATED or len(valid)]  # whole batches
    tokens = mean_tokens(process, valid)

    trained_on = loss_fn
    if training.given_labels:
        trained_on = dataclasses.replace(loss_fn, process=losses.GivenLabels(process, training.given_labels))

    def bits_per_token(params, frozen, batch):
        del frozen
        return trained_on(params, batch).mean() / tokens / jnp.log(2)

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
        return shards.kept(TrainState(state.step + 1, params, ema, opt_state), mesh), loss

    manager = checkpoints.Manager(folder / "checkpoints", keep=2)
    state, batches = manager.restore_latest(state, batches)
    start = int(state.step)
    count = _count(state.params)
    logging.info("training %s: %d parameters, steps %d to %d", training.loss, count, start, training.steps)
    evaluate = functools.partial(
        validation_bits, jax.jit(parallel.on_every_device(loss_fn, mesh)), key_valid, valid, tokens
    )
    progress, writer = Progress("train", training.steps, start, every=30.0), MetricWriter(folder)
    with contextlib.closing(manager), contextlib.closing(writer):
        with checkpoints.StopSignal() as stop:
            for step in range(start, training.steps):
                state, loss = step_fn(state, parallel.shard_batch(next(batches), mesh))
                done = step + 1
                stopping = stop.agreed(wait=done == training.steps)
                if done % 50 == 0 or done == training.steps:
                    _check_finite("loss", loss, training, done)
                    progress(done, bits=loss)
                    writer(done, loss_bits=loss)
                if done % training.checkpoint_every == 0 or done == training.steps or stopping:
                    # The loss is that of the parameters before this step.
                    _check_finite("loss", loss, training, done)
                    _check_finite("largest parameter", _largest(state.params), training, done)
                    manager.save(done, state, batches)
                if done % training.validate_every == 0 and done < training.steps:
                    bits, error = evaluate(state.ema)
                    logging.info("step %d: validation %.4f +- %.4f bits per token", done, bits, error)
                    writer(done, validation_bits=bits)
                if stopping:
                    stop.leave(done)
        bits, error = evaluate(state.ema, draws=_FINAL_DRAWS)
        writer(training.steps, validation_bits=bits)
    return parallel.whole(state.ema), {"validation_bits": bits, "standard_error": error}


def _check_finite(name: str, value: jax.Array, training: TrainingSettings, done: int) -> None:
    """Raises ValueError at the first value that is not a number, before it reaches a log or a checkpoint."""
    if not np.isfinite(value):
        raise InputError(
            f"learning_rate={training.learning_rate}: too large; the {name} is {float(value)} at step {done}. The newest checkpoint "
            "is from before"
        )


def with_noise(key: jax.Array, x0_BL: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The batch (tokens, antithetic times, one key per sequence) that the losses take."""
    key_time, key_noise = jax.random.split(key)
    batch = x0_BL.shape[0]
    return x0_BL, losses.antithetic_times(key_time, batch), jax.random.split(key_noise, batch)


def validation_bits(
    loss_fn: Callable,
    key: jax.Array,
    sequences: np.ndarray,
    tokens: float,
    params: Any,
    draws: int = 1,
    batch_size: int = _VALIDATED,
) -> tuple[float, float]:
    """Mean loss in bits per token over `sequences`, `draws` noise draws each, and its standard error over sequences; `tokens` is
    their mean number of tokens."""
    batch_size = min(batch_size, len(sequences))
    starts = range(0, len(sequences) - batch_size + 1, batch_size)
    values = []
    for draw in range(draws):
        for start in starts:
            batch = jnp.asarray(sequences[start : start + batch_size], jnp.int32)
            noisy = with_noise(jax.random.fold_in(jax.random.fold_in(key, draw), start), batch)
            values.append(np.asarray(loss_fn(params, noisy)))
    bits = np.concatenate(values).reshape(draws, -1).mean(0) / tokens / np.log(2)
    return float(bits.mean()), float(bits.std() / np.sqrt(len(bits)))


@jax.jit
def _largest(params: Any) -> jax.Array:
    return jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(params)]).max()


def _count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))
