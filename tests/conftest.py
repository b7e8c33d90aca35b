"""Eight CPU devices, no silent broadcasting between ranks, and a data cache of the session's own."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Prepared data sets go to a folder of this session, never to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSD_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def quick_compile():
    """What compiles is run once: do not optimise it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
