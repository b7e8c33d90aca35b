import numpy as np
import pytest

from lsd_jax.distill.teacher import cached_teacher
from tests.distill.chain import S, teacher_paths


def test_teacher_paths_reveal_each_position_once():
    paths = teacher_paths()
    masked = paths.states == S
    assert masked[:, 0].all() and not masked[:, -1].any()
    assert (np.diff(masked.astype(int), axis=1) <= 0).all()
    changed = paths.states[:, 1:] != paths.states[:, :-1]
    assert (changed.sum(1) == 1).all()


def test_teacher_cache(tmp_path):
    paths, drawn = teacher_paths(), []
    draw = lambda: drawn.append(1) or paths
    for _ in range(2):
        again = cached_teacher(tmp_path, {"seed": 0}, draw)
    assert len(drawn) == 1
    np.testing.assert_array_equal(again.states, paths.states)
    cached_teacher(tmp_path, {"seed": 1}, draw)
    assert len(drawn) == 2
    file = sorted(tmp_path.glob("*.npz"))[0]
    with pytest.raises(ValueError, match=r"^cache=.* other settings of seed"):
        for seed in (0, 1):
            cached_teacher(tmp_path, {"seed": seed}, draw, cache=str(file))
    with pytest.raises(FileNotFoundError, match=r"^cache="):
        cached_teacher(tmp_path, {"seed": 0}, draw, cache=str(tmp_path / "none.npz"))
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"^cache=.* delete it"):
        for seed in (0, 1):
            cached_teacher(tmp_path, {"seed": seed}, draw)
