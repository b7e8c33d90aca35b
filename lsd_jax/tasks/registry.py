"""Which tasks there are: the one place that knows them all."""

from lsd_jax.errors import InputError, check_kind
from lsd_jax.tasks.chains import Bigram, Countdown, Toy
from lsd_jax.tasks.images import Cifar10, Digits
from lsd_jax.tasks.labeled import LogPMolecules, QedMolecules
from lsd_jax.tasks.molecules import Molecules
from lsd_jax.tasks.proteins import Proteins
from lsd_jax.tasks.selfies import Selfies
from lsd_jax.tasks.subwords import Subwords
from lsd_jax.tasks.task import Data, Judge, Task
from lsd_jax.tasks.text import Text
from lsd_jax.tasks.tokens import Tokens

TASKS: dict[str, type[Task]] = {
    "text": Text,
    "subwords": Subwords,
    "countdown": Countdown,
    "bigram": Bigram,
    "toy": Toy,
    "digits": Digits,
    "cifar10": Cifar10,
    "tokens": Tokens,
    "proteins": Proteins,
    "molecules": Molecules,
    "molecules_logp": LogPMolecules,
    "molecules_qed": QedMolecules,
    "selfies": Selfies,
}


def padded(data: Data) -> bool:
    """Whether the sequences of a task have lengths of their own."""
    return data.name in TASKS and TASKS[data.name].padded(data)


def make_task(data: Data, judge: Judge | None = None) -> Task:
    """The task that `data` names.

    Args:
        judge: the networks that samples are judged by, loaded here. None: none; samples are measured without them.

    Raises:
        ValueError, FileNotFoundError: an unknown name, or a setting that does not fit; one line that begins with it.
    """
    check_kind("data", data, Data, 'lsd.Data(name="text"), or another task')
    if data.name not in TASKS:
        raise InputError(f"name={data.name!r}: choose one of {tuple(TASKS)}")
    return TASKS[data.name](data, judge)
