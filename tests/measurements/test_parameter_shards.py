"""What a device holds of a network in parts, on a small one."""

import pytest

from lsd_jax import parallel
from lsd_jax.models.ddit import DDiTConfig
from measurements import parameter_shards as module


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(module, "LARGE", DDiTConfig(64, dim=64, depth=1, heads=2))
    yield
    parallel.shard_parameters(1)


def test_a_device_of_eight_holds_an_eighth():
    parts = module.memory(8)
    parallel.shard_parameters(1)
    whole = module.kept_bytes(module.model_of(module.LARGE).params)
    (held,) = parts["parameter_bytes_per_device"]
    assert max(whole) == 4 * parts["parameters"] and max(whole) / 8 <= held < max(whole) / 6
    assert len(parts["tokens"]) == 8 and min(parts["temporary_bytes_per_device"].values()) > 0
