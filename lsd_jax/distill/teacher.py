"""The teacher: the same network run with many small steps; its paths are drawn once, cached and reused."""

import dataclasses
import hashlib
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from lsd_jax import parallel
from lsd_jax.models.score_fn import ScoreModel
from lsd_jax.processes.score import Process
from lsd_jax.samplers.bridge import bridge_state
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.kernel import Kernel
from lsd_jax.samplers.simulate import simulate, uniform_schedule


@dataclasses.dataclass(frozen=True)
class TeacherPaths:
    """Teacher paths, from noise to data.

    Attributes:
        states: (P, N + 1, L) tokens of P paths.
        time_grid: the N + 1 times of the fine grid.
        key_data: the paths' PRNG keys (P, 2): a student with the same coupling that reads them shares the noise.
    """

    states: np.ndarray
    time_grid: np.ndarray
    key_data: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.time_grid) - 1

    @property
    def tokens(self) -> np.ndarray:
        """The final tokens (P, L)."""
        return self.states[:, -1]

    def repeated(self, draws: int) -> tuple[np.ndarray, jax.Array]:
        """Tokens (P draws, L) and keys (P draws,): every path `draws` times in sequence, first with its own key."""
        key_P = jax.random.wrap_key_data(jnp.asarray(self.key_data))
        copies = [key_P] + [jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(key_P) for i in range(1, draws)]
        keys = jnp.stack([jax.random.key_data(copy) for copy in copies], 1).reshape(-1, self.key_data.shape[1])
        return np.repeat(self.tokens, draws, 0), jax.random.wrap_key_data(keys)

    def index_of(self, times: np.ndarray) -> np.ndarray:
        """The fine-grid index nearest to each time; the ends are exact."""
        return np.abs(self.time_grid[None] - np.asarray(times)[:, None]).argmin(1)


def sample_teacher(
    key: jax.Array,
    process: Process,
    kernel: Kernel,
    model: ScoreModel,
    coupling: Coupling,
    steps: int,
    paths: int,
    length: int,
) -> TeacherPaths:
    """Draws `paths` paths of `steps` equal steps, their sequences sharded over all devices.

    Raises:
        ValueError: `paths` is not divisible by the number of devices.
    """
    mesh = parallel.data_mesh()
    if paths % mesh.size:
        raise ValueError(f"config.teacher.paths={paths} is not divisible by {mesh.size} devices")
    schedule = uniform_schedule(steps)

    def run(params, key_B):
        def draw(key_B):
            network = model.bind(params)
            sample = simulate(key_B, process, kernel, network, schedule, coupling, len(key_B), length, keep_states=True)
            return jnp.swapaxes(sample.states, 0, 1)

        states = parallel.in_passes(draw, key_B, 4 * process.vocab_size * length)
        return states.reshape(len(key_B), steps + 1, length)

    key_P = sequence_keys(key, paths)
    states = parallel.gather(
        jax.jit(parallel.map_over_data(run, mesh))(model.params, parallel.shard_global(key_P, mesh))
    )
    smallest = np.uint8 if process.num_states <= 256 else np.int32
    return TeacherPaths(states.astype(smallest), np.asarray(schedule.time_grid), np.asarray(jax.random.key_data(key_P)))


def bridged_teacher(
    key: jax.Array, process: Process, coupling: Coupling, steps: int, tokens_PL: np.ndarray
) -> TeacherPaths:
    """Paths of `steps` equal steps to given sequences: those of an ideal teacher whose law is the data's."""
    times = np.asarray(uniform_schedule(steps).time_grid)
    key_P = sequence_keys(key, len(tokens_PL))
    tokens = jnp.asarray(tokens_PL, jnp.int32)
    at = jax.jit(lambda t: bridge_state(key_P, process, coupling, tokens, t))
    states = np.stack([np.asarray(at(t)) for t in times], 1)
    smallest = np.uint8 if process.num_states <= 256 else np.int32
    return TeacherPaths(states.astype(smallest), times, np.asarray(jax.random.key_data(key_P)))


def cached_teacher(folder: pathlib.Path, recipe: dict, draw, cache: str = "") -> TeacherPaths:
    """The paths that `recipe` (all that made them, JSON-serialisable) names, from `folder` or drawn by `draw()`.

    Args:
        cache: a file of an earlier run to take the paths from.

    Raises:
        FileNotFoundError: `cache` is not there.
        ValueError: a file that cannot be read, or that was made with other settings; the message names them.
    """
    text = json.dumps(recipe, sort_keys=True)
    file = (
        pathlib.Path(cache).expanduser() if cache else folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    )
    if cache and not file.is_file():
        raise FileNotFoundError(f"config.teacher.cache={cache!r}: no such file")
    if file.exists():
        try:
            with file.open("rb") as stream, np.load(stream) as saved:
                paths, made = TeacherPaths(saved["states"], saved["time_grid"], saved["key_data"]), str(saved["recipe"])
        except Exception as error:
            raise ValueError(f"teacher cache {file} cannot be read ({error}); delete it to draw it again") from None
        if made != text:
            old = json.loads(made)
            changed = sorted(name for name in recipe.keys() | old.keys() if old.get(name) != recipe.get(name))
            raise ValueError(
                f"teacher cache {file} was made with other settings of {', '.join(changed)}; use another file"
            )
        return paths
    paths = draw()
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.stem + ".partial.npz")
        np.savez_compressed(partial, recipe=text, **dataclasses.asdict(paths))
        os.replace(partial, file)
        logging.info("teacher paths written to %s", file)
    return paths
