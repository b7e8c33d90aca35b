"""What the cells of one task share: the task, the model, and what likelihoods are measured on."""

import functools
import pathlib
import time
from typing import Any

import jax
import ml_collections
import numpy as np

from lsd_jax.experiment import build
from lsd_jax.experiment.records import DATA
from lsd_jax.keys import RowStream, cell_key, generator, sequence_keys
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import mean_tokens
from lsd_jax.samplers.continuous import continuous_time_nats
from lsd_jax.samplers.likelihood import PathCosts, elbo_nats, path_costs
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import uniform_schedule
from lsd_jax.samplers.simulate import draw_and_count
from lsd_jax.tasks.task import Task, floor


class Context:
    """What the cells of one task share: task, model, held-out sequences with their many-step cost, and fresh teacher samples."""

    def __init__(self, config: ml_collections.ConfigDict, workdir: pathlib.Path, seed: int):
        self.config, self.seed = config, seed
        self.task: Task = build.task_of(config, judged=False)
        self.model: Diffusion = build.model_of(config, workdir, self.task)
        self.exact = config.model.name == "oracle"

    @functools.cached_property
    def judged(self) -> Task:
        """The task with the networks that judge samples; a distillation alone does without."""
        return build.task_of(self.config)

    @functools.cached_property
    def train(self) -> np.ndarray:
        """The training split (n, L)."""
        return self.task.split("train")

    @functools.cached_property
    def held_out(self) -> np.ndarray:
        """Test sequences (n, L) that likelihoods are measured on."""
        return self.task.split("test")[: self.config.evaluation.held_out]

    @functools.cached_property
    def many_step_nats(self) -> np.ndarray:
        """The continuous-time ELBO (n,) of the held-out sequences, nats each; their exact -log p with the exact denoiser."""
        if self.exact:
            return -self.task.exact_log_prob(self.held_out)
        if not len(self.held_out):
            return np.zeros(0)
        batch = self.config.evaluation.batch_size
        return continuous_time_nats(self.model, cell_key(self.seed, "many"), self.held_out, batch)

    @functools.cached_property
    def teacher(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Sequences of the teacher's distribution and the teacher's own cost of them (n,), nats each; for the path KL.

        With the exact denoiser the held-out sequences are the teacher's. A teacher of data has the data's distribution: its path KL is
        the gap itself, and None is returned.
        """
        if self.exact:
            return self.held_out, self.many_step_nats
        if self.config.teacher.source != "samples":
            return None
        student, settings = build.student_of(self.config), self.config.teacher
        kernel = get_kernel(student.kernel).stand_in
        many = Sampler(uniform_schedule(settings.steps), kernel, student.coupling).bound_to(
            self.model, self.task.length
        )
        if not many.has_likelihood(self.model.process):
            return None
        keys, batch = sequence_keys(cell_key(self.seed, "draw"), settings.paths), self.config.evaluation.batch_size
        tokens = draw_and_count(self.model, many, keys, batch)[0]
        # The cells read the same key: a student of the teacher's coupling then reveals in the teacher's own order.
        return tokens, elbo_nats(self.model, many, cell_key(self.seed, "path"), tokens, batch)

    def without_network(self, name: str, seed: int, count: int) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
        """Tokens, facts and likelihood metrics of real data or of a degenerate baseline."""
        facts: dict[str, Any] = {"nfe": 0, "kernel": ""}
        if name != DATA:
            rng = generator(seed, RowStream.DEGENERATE)
            draw = self.task.baselines()[name]
            return draw(rng, self.train, count, self.task.length), facts, {}
        tokens = self.task.data_row(seed, count)
        facts["best"] = dict(self.judged.best)
        if self.config.evaluation.floor_draws:
            facts["floor"] = floor(self.judged, len(tokens), self.config.evaluation.floor_draws, seed)
        return tokens, facts, {"bound_bits": self.bits_per_token(self.many_step_nats)} if len(self.held_out) else {}

    def bits_per_token(self, nats_N: np.ndarray) -> tuple[float, float, float]:
        """All bits of the first held-out sequences, whose nats are given, over all their tokens, with its interval.

        A pad is no token: where sequences have lengths of their own, each counts as many as it has.
        """
        rows = self.held_out[: len(nats_N)]
        return mean_interval(nats_N / mean_tokens(self.model.process, rows) / np.log(2))

    def elbo(self, drawn: Sampler, key: jax.Array) -> np.ndarray | None:
        """The M-step ELBO (n,) of the held-out sequences or their exact cost, nats each; None where there is neither."""
        if not len(self.held_out) or not drawn.has_likelihood(self.model.process):
            return None
        return elbo_nats(self.model, drawn, key, self.held_out, self.config.evaluation.batch_size)

    def path_costs(self, drawn: Sampler, key: jax.Array) -> PathCosts | None:
        """What the first held-out sequences cost along many paths; None where there is no likelihood or it is not asked for."""
        rows, settings = self.held_out[: self.config.evaluation.weighted], self.config.evaluation
        if not len(rows) or not drawn.has_likelihood(self.model.process):
            return None
        return path_costs(self.model, drawn, key, rows, settings.paths, settings.batch_size)

    def likelihood_metrics(self, drawn: Sampler, nats: np.ndarray | None, costs: PathCosts | None) -> dict[str, Any]:
        """name -> (mean, low, high) of likelihood and ELBO on held-out sequences and of the path KL, as far as there are any."""
        metrics, bits = {}, self.bits_per_token
        if costs is not None:
            metrics["nll_bits"] = bits(costs.weighted())
            if not costs.exact:
                metrics["nll_quarter_bits"] = bits(costs.weighted(max(costs.nats_NK.shape[1] // 4, 1)))
        if nats is not None:
            metrics["bound_bits"] = bits(nats)
            # The same sequences' many-step cost is taken off one by one: most of their spread cancels.
            metrics["gap_nats"] = mean_interval(nats - self.many_step_nats)
        of_paths = drawn.has_likelihood(self.model.process) and drawn.kernel.nll is None
        if of_paths and self.teacher is not None and len(self.teacher[0]):
            tokens, teacher_nats = self.teacher
            if not self.exact:
                key, batch = cell_key(self.seed, "path"), self.config.evaluation.batch_size
                nats = elbo_nats(self.model, drawn, key, tokens, batch)
            metrics["path_kl_nats"] = mean_interval(nats - teacher_nats)
        return metrics


def timed_draw(
    model: Diffusion, drawn: Sampler, key: jax.Array, settings: ml_collections.ConfigDict
) -> tuple[np.ndarray, dict[str, float]]:
    """Samples, the network evaluations really made (their mean, and the 95th percentile where they differ), and seconds per
    sequence, the first batch (compilation) left out.
    """
    keys, batch = sequence_keys(key, settings.num_samples), settings.batch_size
    tokens, calls = draw_and_count(model, drawn, keys[:batch], batch)
    facts = {}
    if settings.num_samples > batch:
        began = time.perf_counter()
        more_tokens, more_calls = draw_and_count(model, drawn, keys[batch:], batch)
        facts["seconds_per_sequence"] = (time.perf_counter() - began) / len(more_tokens)
        tokens, calls = np.concatenate([tokens, more_tokens]), np.concatenate([calls, more_calls])
    if np.ptp(calls):
        facts["nfe_95"] = round(float(np.percentile(calls, 95)), 2)
    return tokens, {"nfe": round(float(calls.mean()), 2), **facts}
