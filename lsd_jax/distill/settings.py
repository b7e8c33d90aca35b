"""What a distillation can be told: frozen settings, whose fields are those of a config's sections."""

import dataclasses

from lsd_jax.samplers.coupling import Coupling

SPREAD = Coupling("low_discrepancy")


@dataclasses.dataclass(frozen=True)
class TeacherSettings:
    """The many-step sampler that students follow (config.teacher).

    Attributes:
        source: "samples" (the network, run in N steps) or "data" (paths of an ideal teacher to given sequences).
        steps: N.
        paths: how many paths; a multiple of the devices.
        cache: a file of teacher paths from an earlier run; empty: the folder of this one.
    """

    source: str = "samples"
    steps: int = 1024
    paths: int = 64
    cache: str = ""


@dataclasses.dataclass(frozen=True)
class StudentSettings:
    """What a student is before any gradient (config.student).

    Attributes:
        kernel: its base sampler, any kernel of docs/samplers.md.
        coefficient: what Phi multiplies: "score" (the paper's eq. 5) or "log_score" (the authors' code).
        temperature: where the student starts, and stays without an optimization.
        top_p: tokens are drawn from the smallest set with this share of the probability; 1 is all of them.
        grid: "optimal" (shortest path), "halving", "jys" (KLUB), "profile" (random order), or a fixed grid such as "uniform".
        grid_points: candidate times of the cost table.
        refine: move the grid off the candidate times where unseen paths agree.
        draws: reveal orders per teacher path in the cost table.
        order: "fixed" (the coupling's), "auto" (the cost table chooses, and two orders may be mixed) or "learned" (local search on top).
        order_trials: trials of the local search.
        potentials: sequences that pair potentials between the tokens of one step are fitted on; 0 for none.
        coupling: where the student's randomness comes from.
    """

    kernel: str = "tweedie"
    coefficient: str = "score"
    temperature: float = 1.0
    top_p: float = 1.0
    grid: str = "optimal"
    grid_points: int = 128
    refine: bool = False
    draws: int = 1
    order: str = "auto"
    order_trials: int = 200
    potentials: int = 0
    coupling: Coupling = SPREAD


@dataclasses.dataclass(frozen=True)
class AlignmentSettings:
    """Of the objectives score_alignment and effective_transition (config.distill.alignment).

    Attributes:
        distance: "l2" or "kl".
        noise: "shared" (the student reads the teacher's uniforms) or "independent".
        gradient: "detached" (the paper's) or "unrolled" (through the student's path).
        radius: zeta, the Hamming distance of the student's prior state, as a share of the length.
        literal: effective_transition: eq. 8 as printed instead of summed.
    """

    distance: str = "l2"
    noise: str = "shared"
    gradient: str = "detached"
    radius: float = 0.05
    literal: bool = False


@dataclasses.dataclass(frozen=True)
class OptimizeSettings:
    """The gradient descent on a student's parameters (config.distill).

    Attributes:
        objective: a name of distill/objectives/registry.py.
        steps: Adam steps, a multiple of 10; 0 leaves the parameters as they are.
        batch_size: paths per step.
        draws: bridges per teacher path, for objectives that use them.
        learning_rate: falls to zero by a cosine.
        checkpoint_every: steps between checkpoints.
        reverse_share: of the objective kl_mix: 0 is as diverse as the teacher, 1 as precise as possible.
        alignment: of the paper's objectives.
    """

    objective: str = "path_kl"
    steps: int = 0
    batch_size: int = 16
    draws: int = 1
    learning_rate: float = 0.01
    checkpoint_every: int = 20
    reverse_share: float = 0.5
    alignment: AlignmentSettings = AlignmentSettings()
