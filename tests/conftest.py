"""Eight CPU devices, no silent broadcasting between ranks, and a data cache of the session's own."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What a test compiles it runs a few times: most of the suite's time would be XLA's optimisations. Set to 0, they are made.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

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


@pytest.fixture(scope="module", autouse=True)
def _programs():
    """A module's compiled programs go with it: all of them together would need more memory maps than a process may have."""
    yield
    jax.clear_caches()
