import pytest

from lsd_jax.tasks import chains


@pytest.fixture
def small_cache(monkeypatch, tmp_path):
    """Chains of a hundred sequences, in a cache of their own."""
    monkeypatch.setenv("LSD_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(chains, "SPLITS", {"train": (0, 60), "validation": (1, 20), "test": (2, 20)})
    return tmp_path
