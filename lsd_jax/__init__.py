"""Few-step samplers for discrete diffusion models, learned from the model itself.

Three nouns: `Diffusion` (a model), `Sampler` (what is learned), `Task` (a kind of data). Verbs: `distill`, `sample`, `likelihood`.
"""

from lsd_jax.distill.distill import distill
from lsd_jax.distill.settings import AlignmentSettings, OptimizeSettings, StudentSettings, TeacherSettings
from lsd_jax.errors import InputError
from lsd_jax.models.guidance import guided, without
from lsd_jax.models.load import load_model
from lsd_jax.models.model import Diffusion, Identity
from lsd_jax.models.torch import from_torch
from lsd_jax.parallel import shard_parameters
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.noise import Cosine, Exponential, Geometric, LogLinear
from lsd_jax.processes.uniform import Uniform
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.file import load_sampler
from lsd_jax.samplers.kernel import Condition
from lsd_jax.samplers.likelihood import likelihood
from lsd_jax.samplers.sampler import Sampler, sampler
from lsd_jax.samplers.simulate import sample
from lsd_jax.samplers.threshold import fit_threshold
from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.task import Data, Judge, Task

__all__ = [
    "Absorbing",
    "AlignmentSettings",
    "Condition",
    "Cosine",
    "Coupling",
    "Data",
    "Diffusion",
    "DiscretizedGaussian",
    "Exponential",
    "Geometric",
    "Identity",
    "InputError",
    "Judge",
    "LogLinear",
    "OptimizeSettings",
    "Sampler",
    "StudentSettings",
    "Task",
    "TeacherSettings",
    "Uniform",
    "distill",
    "fit_threshold",
    "from_torch",
    "guided",
    "likelihood",
    "load_model",
    "load_sampler",
    "make_task",
    "sample",
    "sampler",
    "shard_parameters",
    "without",
]
