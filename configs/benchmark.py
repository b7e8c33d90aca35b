"""Every sampler that one would compare, on the same metrics, at equal true numbers of network evaluations.

    python -m lsd_jax.main --config=configs/benchmark.py
    python -m lsd_jax.main --config=configs/benchmark.py --config.nfe="(4, 8, 16)"
    python -m lsd_jax.main --config=configs/benchmark.py:leaders
    python -m lsd_jax.main --config=configs/benchmark.py:seeds
    python -m lsd_jax.main --config=configs/benchmark.py:full

Hardware and time: 2 CPU cores; about an hour at 4, 8 and 16 network evaluations; it resumes cell by cell. `:full` has every task
with 4, 8, 16 and 32: 879 cells in some six hours, three of them for students.
Expect (`:full`, seed 0, revision b332de19d1d8; docs/results/benchmark.md) on text, -log p in nats per sequence, <= where it is a bound:

    NFE                            4        8        16       32
    path-KL student                198.1    187.1    183.4    183.0
    dilated order, uniform grid    <=200.3  <=190.3  <=190.0  <=189.9
    golden order, uniform grid     <=202.2  <=189.5  <=188.0  <=188.1
    Euler                          <=221.8  <=203.4  <=195.9  <=191.8
    LSD+ (Eq. 8), summed           <=249.4  <=230.2  <=216.7  <=206.4
"""

from ml_collections import ConfigDict

from lsd_jax.configs.common import base_config, variant

BASE = {
    "distill.steps": 0,
    "teacher.source": "data",
    "teacher.steps": 256,
    "teacher.paths": 128,
    "student.grid_points": 128,
    "model.name": "oracle",
    "evaluation.num_samples": 512,
    "evaluation.batch_size": 256,
    "evaluation.held_out": 128,
}
PLAIN = {
    "student__grid": "uniform",
    "student__order": "fixed",
    "student__coupling__name": "iid",
}
COUNTDOWN = {"data__name": "countdown", "data__vocab_size": 32, "data__sequence_length": 256}
BIGRAM = {"data__name": "bigram", "data__sequence_length": 256}
TOY = {"data__name": "toy", "data__vocab_size": 15, "data__sequence_length": 2, "evaluation__num_samples": 8192}
# Where a position jumps many times there is no order of reveals.
UNIFORM = {
    "process__name": "uniform",
    "student__order": "fixed",
    "student__coupling__name": "iid",
    "teacher__paths": 64,
}
TEXT = {
    "model__name": "ddit",
    "model__weights": "text_teacher.safetensors",
    "evaluation__scorer": "text_scorer.safetensors",
    "evaluation__num_samples": 128,
    "evaluation__batch_size": 64,
    "evaluation__held_out": 64,
    "teacher__steps": 128,
    "student__grid_points": 64,
}
TASKS = {
    "text, absorbing": TEXT,
    "countdown, absorbing": COUNTDOWN,
    "countdown, uniform": {**COUNTDOWN, **UNIFORM},
    "bigrams, absorbing": BIGRAM,
    "bigrams, uniform": {**BIGRAM, **UNIFORM},
    "toy, absorbing": TOY,
    "toy, uniform": {**TOY, **UNIFORM},
}

# The paper's own: coefficients (LSD) and, with the teacher's terms summed over the student's steps, times too (LSD+).
LSD = {
    "student__kernel": "euler",
    "distill__steps": 100,
    "distill__learning_rate": 0.1,
    "distill__objective": "score_alignment",
    "distill__alignment__noise": "independent",
    "teacher__source": "samples",
}
UNTUNED = {"student__kernel": "tweedie", "student__coupling__name": "low_discrepancy"}  # our orders, nothing learned
OURS = "path-KL student"
SAMPLERS = {
    OURS: {},
    "LSD (Eq. 6), as printed": LSD,
    "LSD+ (Eq. 8), summed": {**LSD, "distill__objective": "effective_transition"},
    "Euler": {"student__kernel": "euler"},
    "Euler, T=0.8": {"student__kernel": "euler", "student__temperature": 0.8},
    "Euler, top-p 0.9": {"student__kernel": "euler", "student__top_p": 0.9},
    "Tweedie": {"student__kernel": "tweedie"},
    "Tweedie, cosine grid": {"student__kernel": "tweedie", "student__grid": "cosine"},
    "Tweedie, JYS grid": {"student__kernel": "tweedie", "student__grid": "jys"},
    "ancestral (MDLM)": {"student__kernel": "ancestral"},
    "ancestral, cached": {"student__kernel": "cached"},
    "tau-leaping": {"student__kernel": "tau_leaping"},
    "tau-leaping, binomial": {"student__kernel": "binomial_leaping"},
    "theta-RK2": {"student__kernel": "theta_rk2"},
    "theta-trapezoidal": {"student__kernel": "theta_trapezoidal"},
    "predictor-corrector": {"student__kernel": "predictor_corrector"},
    "ReMDM cap": {"student__kernel": "remdm_cap"},
    "ReMDM rescale": {"student__kernel": "remdm_rescale"},
    "ReMDM conf": {"student__kernel": "remdm_conf"},
    "ReMDM conf, top-p 0.9": {"student__kernel": "remdm_conf", "student__top_p": 0.9},
    "ReMDM loop": {"student__kernel": "remdm_loop"},
    "MaskGIT": {"student__kernel": "maskgit"},
    "MaskGIT, cosine grid": {"student__kernel": "maskgit", "student__grid": "cosine"},
    "MaskGIT, cosine grid, choice T=1": {"student__kernel": "maskgit_cool", "student__grid": "cosine"},
    "golden order, uniform grid": UNTUNED,
    "golden order, cosine grid": {**UNTUNED, "student__grid": "cosine"},
    "dilated order, uniform grid": {**UNTUNED, "student__coupling__generator": "van_der_corput"},
    "dilated order, cosine grid": {
        **UNTUNED,
        "student__coupling__generator": "van_der_corput",
        "student__grid": "cosine",
    },
    "top-k margin": {"student__kernel": "margin"},
    "entropy": {"student__kernel": "entropy"},
    "block-wise (semi-autoregressive)": {"student__kernel": "blockwise"},
    "k-Gillespie": {"student__kernel": "gillespie"},
    "first-hitting (exact)": {"student__kernel": "first_hitting"},
    "any order (RADD)": {"student__kernel": "any_order"},
    "uniformization (exact)": {"student__kernel": "uniformization"},
    "entropy bound": {"student__kernel": "eb"},
    "confidence threshold": {"student__kernel": "confidence_threshold"},
    "KLASS": {"student__kernel": "klass"},
    "entropy bound, uniform": {"student__kernel": "eb_uniform"},
    "degenerate: Euler, T=0.3": {"student__kernel": "euler", "student__temperature": 0.3},
}
LEADERS = (
    OURS,
    "golden order, uniform grid",
    "golden order, cosine grid",
    "dilated order, uniform grid",
    "dilated order, cosine grid",
    "Euler",
    "Euler, T=0.8",
    "Tweedie",
    "MaskGIT, cosine grid",
    "k-Gillespie",
)
# Random streams of samplers that were renamed.
STREAMS = {OURS: "LSD+ student (ours)", "degenerate: Euler, T=0.3": "cheat: Euler, T=0.3"}
DEFAULT_TASKS = ("text, absorbing", "countdown, absorbing", "countdown, uniform", "toy, absorbing", "toy, uniform")
# Variant -> tasks, network evaluations, seeds; () is the config's own.
VARIANTS = {
    "full": (tuple(TASKS), (4, 8, 16, 32), ()),
    "leaders": (DEFAULT_TASKS[:2], (4, 8, 16), (0, 1, 2)),
    "seeds": (DEFAULT_TASKS[:2], (8,), (0, 1, 2)),
}


def get_config(variant_name: str = "") -> ConfigDict:
    """The benchmark; "full" has every task with 4 to 32 evaluations, "seeds" every row with 8, three seeds, "leaders" what leads, three seeds.

    Raises:
        ValueError: another variant.
    """
    if variant_name not in ("", *VARIANTS):
        raise ValueError(f"the variants are {tuple(VARIANTS)}")
    names, nfe, seeds = VARIANTS.get(variant_name, (DEFAULT_TASKS, (8, 16), ()))
    config = base_config()
    config.cpu_devices = 2
    config.update_from_flattened_dict(BASE)
    config.tasks = tuple(variant(name, **TASKS[name]) for name in names)
    config.samplers = tuple(
        variant(name, STREAMS.get(name, name), **({**PLAIN, **changes} if changes else {}))
        for name, changes in SAMPLERS.items()
        if name in LEADERS or variant_name != "leaders"
    )
    config.seeds = seeds
    config.stream = "{name}"
    config.evaluation.degenerate = True
    config.evaluation.floor_draws = 10
    config.nfe = nfe
    config.report.ours = OURS
    config.report.figure_samplers = (
        OURS,
        "golden order, cosine grid",
        "dilated order, uniform grid",
        "Euler",
        "theta-trapezoidal",
        "MaskGIT, cosine grid",
        "Tweedie, JYS grid",
    )
    if variant_name == "leaders":
        config.report.figure_samplers = LEADERS
    return config
