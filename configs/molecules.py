"""Few-step students of diffusion models of molecules that ship with the repository, beside samplers by hand.

    pip install rdkit selfies                                     # chemistry, and another writing of molecules
    pip install --no-deps qm9pack==1.0.3 molsets==0.3.1           # the data of QM9 and MOSES: read, never imported
    pip install --no-deps fcd-torch==1.0.7                        # ChemNet's weights, for FCD
    python -m lsd_jax.main --config=configs/molecules.py          # QM9
    python -m lsd_jax.main --config=configs/molecules.py:qm9_selfies   # the same molecules, written so that none is invalid
    python -m lsd_jax.main --config=configs/molecules.py:qm9_uniform   # under uniform noise
    python -m lsd_jax.main --config=configs/molecules.py:moses    # and :moses_selfies; larger ones
    python -m lsd_jax.main --config=configs/molecules.py:qm9_logp # behind the bin of their logP, which a prompt may ask for; :qm9_qed
    python -m lsd_jax.main --config=configs/molecules.py:qm9_logp --stage=sample --sampler=any_order --steps=23 --prompt="logP=2.2"
    python -m lsd_jax.main --config=configs/molecules.py --stage=sample --sampler=any_order --steps=22 --prompt="OC1CC1___"
    python -m lsd_jax.main --config=configs/molecules.py:tiny     # the same path on QM9 in three minutes

SMILES strings of QM9 (131 thousand small molecules; at most 22 tokens) or MOSES (1.6 million drug-like ones out of ZINC; 56), or their
SELFIES (21 and 56).
The length of a molecule is drawn first, from the training split's lengths; orders and grids are fitted on training molecules;
every number is of test molecules. A prompt is a molecule with _ for every free token (of :qm9_qed also QED=0.6; of SELFIES it is SELFIES,
and samples print as SMILES). QM9 has at most nine heavy atoms, so that its networks know no larger molecule.

A file of SMILES of your own, one per line: --config.data.path=FILE. Salts, charges, isotopes and stereo stay as they are. Molecules
that the set's tokens cannot write, or that are too long, are counted, named and left out; the set's network serves the others. To
keep all, take the vocab_size that the error of --config.data.vocab_size=2 names, and --config.model.weights= to train a network first.

Hardware and time: 2 CPU cores; `:tiny` three minutes, QM9 five (10 beside other work), `:moses` 25 beside other work (256 molecules a row:
0.16, 0.36, 0.60 and 0.68 valid by students of 4, 8, 16 and 32). Before Euler with 64 and 128 came in, `:qm9_logp` took five, and beside
other work `:qm9_selfies` 13 and `:qm9_uniform` 16.
Expect (measurements/rows.py on an H100, seed 0; share valid of 10,000 molecules, and -log p of 256 test molecules in nats, for the golden
order, Euler and some students an upper bound; all rows, and which are bounds, in docs/results/molecules.md):

    QM9, NFE           4              8              16             128
    path-KL student    0.52  14.52    0.75  13.48    0.80  13.28
    golden, untuned    0.40  14.71    0.68  13.73    0.79  13.41
    Euler              0.27  15.31    0.48  14.21    0.63  13.69    0.79  13.25
    QM9 as SELFIES, all valid: FCD (10,000 molecules; measurements/rows.py on 2 CPU cores, three fits) and -log p of that writing
    NFE                4              8              16             64
    path-KL student    0.87  14.1     0.49  13.5     0.36  13.3
    golden, untuned    1.20  14.5     0.57  13.7     0.39  13.4
    Euler              1.82  14.8     1.01  14.0     0.67  13.6     0.47  13.4
    MOSES, NFE         4              8              16             32             128
    path-KL student    0.16  25.02    0.41  23.29    0.59  22.73    0.63  22.58
    golden, untuned    0.08  26.50    0.32  23.76    0.51  22.86    0.58  22.57
    Euler              0.02  28.73    0.14  25.20    0.30  23.64    0.43  22.95    0.56  22.46
"""

from ml_collections import ConfigDict

from lsd_jax.configs.benchmark import PLAIN, UNIFORM, UNTUNED
from lsd_jax.configs.common import base_config, variant

OURS = "path-KL student"
# Task, set, tokens, length; dim, depth, heads of the network.
_SETS = {
    "moses": ("molecules", "moses", 25, 56, 256, 6, 8),
    "qm9": ("molecules", "qm9", 31, 22, 192, 3, 6),
    "qm9_selfies": ("selfies", "qm9", 31, 21, 192, 3, 6),
    "moses_selfies": ("selfies", "moses", 27, 56, 192, 6, 6),
    "qm9_logp": ("molecules_logp", "qm9", 44, 23, 192, 3, 6),
    "qm9_qed": ("molecules_qed", "qm9", 44, 23, 192, 3, 6),
    "qm9_uniform": ("molecules", "qm9", 31, 22, 192, 3, 6),
}
_COSINE = {"student__grid": "cosine"}


def get_config(variant_name: str = "qm9") -> ConfigDict:
    """Students and rivals on a set of molecules: `_SETS` has the variants, "tiny" is three minutes of "qm9".

    Raises:
        ValueError: another variant.
    """
    if variant_name not in (*_SETS, "tiny"):
        raise ValueError(f"the variants are {(*_SETS, 'tiny')}")
    name = "qm9" if variant_name == "tiny" else variant_name
    config = base_config()
    config.cpu_devices = 2
    config.data.name, config.data.path, config.data.vocab_size, config.data.sequence_length, *sizes = _SETS[name]
    config.model.weights = f"{name}.safetensors"
    config.model.dim, config.model.depth, config.model.heads = sizes
    config.teacher.source, config.teacher.steps, config.teacher.paths = "data", config.data.sequence_length, 64
    longer = config.data.path == "moses"  # a masked sequence is revealed in as many steps as it has positions, at most
    config.student.steps, config.student.grid_points = ((4, 8, 16, 32), 48) if longer else ((4, 8, 16), 20)
    config.distill.steps = 0
    config.evaluation.num_samples, config.evaluation.batch_size = 256, 64
    config.evaluation.held_out, config.evaluation.weighted, config.evaluation.paths = 64, 16, 8
    config.evaluation.references = 2000
    rivals, shown = SAMPLERS | MANY, SHOWN
    if name == "qm9_uniform":
        rivals, shown, config.model.time_conditioned = UNIFORM_SAMPLERS | MANY, UNIFORM_SHOWN, True
        config.update_from_flattened_dict({field.replace("__", "."): value for field, value in UNIFORM.items()})
    config.samplers = (
        variant(OURS),
        *[variant(entry, **{**PLAIN, **changes}) for entry, changes in rivals.items()],
    )
    config.report.ours = OURS
    config.report.figure_samplers = (OURS, *shown, *MANY)
    return _tiny(config) if variant_name == "tiny" else config


SAMPLERS = {
    "golden order, cosine grid": {**UNTUNED, **_COSINE},
    "Euler": {"student__kernel": "euler"},
    "Euler, T=0.8": {"student__kernel": "euler", "student__temperature": 0.8},
    "Tweedie, cosine grid": {"student__kernel": "tweedie", **_COSINE},
    "Tweedie, JYS grid": {"student__kernel": "tweedie", "student__grid": "jys"},
    "MaskGIT, cosine grid, choice T=1": {"student__kernel": "maskgit_cool", **_COSINE},
    "ReMDM conf, top-p 0.9": {"student__kernel": "remdm_conf", "student__top_p": 0.9},
    "k-Gillespie": {"student__kernel": "gillespie"},
    "top-k margin": {"student__kernel": "margin"},
    "entropy": {"student__kernel": "entropy"},
    "entropy bound": {"student__kernel": "eb"},
    "one token at a time (exact)": {"student__kernel": "first_hitting"},
}

# What few steps are compared with: these have steps of their own.
MANY = {"Euler, many steps": {"student__kernel": "euler", "student__steps": (64, 128)}}

# In color in figures.
SHOWN = (
    "golden order, cosine grid",
    "Euler",
    "top-k margin",
    "k-Gillespie",
    "MaskGIT, cosine grid, choice T=1",
    "one token at a time (exact)",
)

# Under uniform noise tokens change many times, and there is no order of reveals.
UNIFORM_SAMPLERS = {
    "Euler": {"student__kernel": "euler"},
    "Euler, T=0.8": {"student__kernel": "euler", "student__temperature": 0.8},
    "Tweedie": {"student__kernel": "tweedie"},
    "Tweedie, T=0.8": {"student__kernel": "tweedie", "student__temperature": 0.8},
    "Tweedie, cosine grid": {"student__kernel": "tweedie", **_COSINE},
    "Tweedie, JYS grid": {"student__kernel": "tweedie", "student__grid": "jys"},
    "low-discrepancy draws, cosine grid": {**UNTUNED, **_COSINE},
    "tau-leaping": {"student__kernel": "tau_leaping"},
    "theta-trapezoidal": {"student__kernel": "theta_trapezoidal"},
    "predictor-corrector": {"student__kernel": "predictor_corrector"},
    "k-Gillespie": {"student__kernel": "gillespie"},
    "entropy bound, uniform": {"student__kernel": "eb_uniform"},
}
UNIFORM_SHOWN = (
    "low-discrepancy draws, cosine grid",
    "Euler",
    "Tweedie",
    "theta-trapezoidal",
    "k-Gillespie",
    "entropy bound, uniform",
)


def _tiny(config: ConfigDict) -> ConfigDict:
    """The same path in three minutes."""
    config.teacher.paths, config.student.grid_points, config.student.steps = 16, 8, (4,)
    config.evaluation.num_samples, config.evaluation.batch_size, config.evaluation.references = 32, 32, 200
    config.evaluation.held_out, config.evaluation.weighted, config.evaluation.paths = 8, 2, 4
    config.samplers = tuple(entry for entry in config.samplers if entry[0] in (OURS, "Euler"))
    return config
