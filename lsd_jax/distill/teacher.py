"""The teacher: the same network run with many small steps; its paths are drawn once, cached and reused."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from lsd_jax import agreement, parallel
from lsd_jax.errors import InputError
from lsd_jax.files import checked_path, write_whole
from lsd_jax.keys import fold_each, sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process, token_dtype
from lsd_jax.samplers.bridge import bridge_state
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import Kernel
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import uniform_schedule
from lsd_jax.samplers.simulate import simulate


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

    def part(self, part: slice) -> "TeacherPaths":
        """Some of the paths."""
        return dataclasses.replace(self, states=self.states[part], key_data=self.key_data[part])

    def repeated(self, draws: int, first: int = 0) -> tuple[np.ndarray, jax.Array]:
        """Tokens (P draws, L) and keys (P draws,): every path with its draws `first`, `first + 1`, ... in sequence; draw 0 is its
        own key."""
        key_P = jax.random.wrap_key_data(jnp.asarray(self.key_data))
        copies = [fold_each(key_P, i) if i else key_P for i in range(first, first + draws)]
        keys = jnp.stack([jax.random.key_data(copy) for copy in copies], 1).reshape(-1, self.key_data.shape[1])
        return np.repeat(self.tokens, draws, 0), jax.random.wrap_key_data(keys)

    def index_of(self, times: np.ndarray) -> np.ndarray:
        """The fine-grid index nearest to each time; the ends are exact."""
        return np.abs(self.time_grid[None] - np.asarray(times)[:, None]).argmin(1)


def sample_teacher(
    key: jax.Array, model: Diffusion, kernel: Kernel, coupling: Coupling, steps: int, paths: int, length: int
) -> TeacherPaths:
    """Draws `paths` paths of `steps` equal steps, their sequences sharded over all devices.

    Raises:
        ValueError: `paths` is not divisible by the number of devices.
    """
    mesh = parallel.data_mesh()
    if paths % mesh.size:
        raise InputError(f"paths={paths}: is not divisible by {mesh.size} devices")
    schedule = uniform_schedule(steps)
    many = Sampler(schedule, kernel, coupling, length)

    def run(model, key_B):
        def draw(key_B):
            sample = simulate(key_B, model, many, len(key_B), keep_states=True)
            return jnp.swapaxes(sample.states, 0, 1)

        states = parallel.in_passes(draw, key_B, 4 * model.process.vocab_size * length)
        return states.reshape(len(key_B), steps + 1, length)

    key_P = sequence_keys(key, paths)
    states = parallel.gather(jax.jit(parallel.map_over_data(run, mesh))(model, parallel.shard_global(key_P, mesh)))
    if (states[:, -1] < 0).any() or (states[:, -1] >= model.process.vocab_size).any():
        name = model.identity.id or model.identity.kind
        raise InputError(
            f"model={name!r}: its answers are not numbers; the teacher's paths have no tokens at some positions"
        )
    kept = states.astype(token_dtype(model.process.num_states))
    return TeacherPaths(kept, np.asarray(schedule.time_grid), np.asarray(jax.random.key_data(key_P)))


def bridged_teacher(
    key: jax.Array, process: Process, coupling: Coupling, steps: int, tokens_PL: np.ndarray
) -> TeacherPaths:
    """Paths of `steps` equal steps to given sequences: those of an ideal teacher whose distribution is the data's."""
    times = np.asarray(uniform_schedule(steps).time_grid)
    key_P = sequence_keys(key, len(tokens_PL))
    tokens = jnp.asarray(tokens_PL, jnp.int32)
    at = jax.jit(lambda t: bridge_state(key_P, process, coupling, tokens, t))
    states = np.stack([np.asarray(at(t)) for t in times], 1)
    return TeacherPaths(states.astype(token_dtype(process.num_states)), times, np.asarray(jax.random.key_data(key_P)))


def cached_teacher(
    folder: pathlib.Path, recipe: dict[str, Any], draw: Callable[[], TeacherPaths], cache: str = ""
) -> TeacherPaths:
    """The paths that `recipe` (all that made them, JSON-serializable) names, from `folder` or drawn by `draw()`.

    Args:
        cache: a file of an earlier run to take the paths from.

    Raises:
        FileNotFoundError: `cache` is not there.
        ValueError: a file that cannot be read, or that was made with other settings; the message names them.
    """
    text = json.dumps(recipe, sort_keys=True)
    file = checked_path("cache", cache) if cache else folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    kept: list[np.ndarray] = []

    def read() -> list[tuple[list[int], str]]:
        if cache and not file.is_file():
            raise FileNotFoundError(f"cache={cache!r}: no such file")
        kept.extend(_read(file, recipe))
        return [(list(array.shape), array.dtype.name) for array in kept]

    if forms := agreement.from_first(read):
        return TeacherPaths(*agreement.arrays_from_first(kept, forms))
    paths = draw()
    if jax.process_index() == 0:
        write_whole(file, lambda stream: np.savez_compressed(stream, recipe=text, **dataclasses.asdict(paths)))
        logging.info("teacher paths written to %s", file)
    return paths


def _read(file: pathlib.Path, recipe: dict[str, Any]) -> list[np.ndarray]:
    """The arrays of `TeacherPaths` in a file; none if there is no file.

    Raises:
        ValueError: a file that cannot be read, or that was made by another recipe.
    """
    if not file.exists():
        return []
    try:
        with file.open("rb") as stream, np.load(stream) as saved:
            paths, made = [saved[field.name] for field in dataclasses.fields(TeacherPaths)], str(saved["recipe"])
    except Exception as error:
        raise InputError(f"cache={str(file)!r}: cannot be read ({error}); delete it to draw it again") from None
    if made != json.dumps(recipe, sort_keys=True):
        old = json.loads(made)
        changed = sorted(name for name in recipe.keys() | old.keys() if old.get(name) != recipe.get(name))
        raise InputError(f"cache={str(file)!r}: was made with other settings of {', '.join(changed)}; use another file")
    return paths
