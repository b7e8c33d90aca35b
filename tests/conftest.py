"""Eight CPU devices, no silent broadcasting between ranks, quick compilations, and a data cache of the tests' own."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What a test compiles it runs a few times: most of the suite's time would be XLA's optimizations. Set to 0, they are made.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
import jax
import pytest

if jax.__version_info__[:2] == (0, 10):  # a flag that another version does not know would end the process
    # XLA's older emitters make a program of a sampler in a third of the time; folding the all-mask start of 200,000
    # sequences into a constant takes 15 seconds (both measured with jaxlib 0.10.2).
    # Dividing a program among threads costs more than it gives: a worker has one core.
    quick = "--xla_cpu_use_fusion_emitters=false --xla_disable_hlo_passes=constant_folding"
    quick += " --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {quick}"

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """Prepared data sets go to a temporary folder, never to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSD_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module", autouse=True)
def _programs():
    """A module's compiled programs go with it: all of them together would need more memory maps than a process may have."""
    yield
    jax.clear_caches()
