"""A published language model of antibodies as a masked diffusion model: few-step students beside samplers by hand.

    pip install --no-deps antiberty==0.1.3 sapiens==1.0.4        # data only: nothing of them is imported
    python -m lsd_jax.main --config=configs/antibody.py
    python -m lsd_jax.main --config=configs/antibody.py:tiny     # the same path on tiny random weights, offline

AntiBERTy (Ruffolo et al. 2021, MIT; 26 M parameters) was trained to fill about 15 % masks in 558 million antibodies. Here it makes
whole heavy chains of 121 amino acids from masks alone. Data: chains that ship, drawn from OLGA's model of recombination
(lsd_jax/shipped/corpus/README.md); orders and grids are fitted on the training split, every number is of the test split.
Sapiens (Prihoda et al. 2022, MIT), which had no part in making the samples, is the second model that judges them.
Chains of your own: --config.data.path=FILE, FASTA or one per line, of those that have sequence_length amino acids; of several lengths
with --config.data.vocab_size=21 (they and a pad) and the longest as sequence_length, at most 142 for Sapiens.
Hardware and time: 2 CPU cores, about 45 minutes.
Expect (seed 0; M-step ELBO of 16 held-out chains, nats; docs/results/antibody.md, which says what limits the samples):

    NFE                          4      8      16
    path-KL student              67.7   57.7   57.3
    golden order, cosine grid    93.3   73.5   70.9
    Euler                        123.3  85.3   70.5
"""

from ml_collections import ConfigDict

from lsd_jax.configs.benchmark import PLAIN, UNTUNED
from lsd_jax.configs.common import base_config, variant

OURS = "path-KL student"
_COSINE = {"student__grid": "cosine"}


def get_config(variant_name: str = "") -> ConfigDict:
    """Students of AntiBERTy; "tiny" runs on random weights.

    Raises:
        ValueError: another variant.
    """
    if variant_name not in ("", "tiny"):
        raise ValueError("the only variant is 'tiny'")
    config = base_config()
    config.cpu_devices = 2
    config.data.name, config.data.vocab_size, config.data.sequence_length = "proteins", 20, 121
    config.model.name = config.model.weights = "antiberty"
    config.teacher.source, config.teacher.steps, config.teacher.paths = "data", 121, 32
    config.student.steps, config.student.grid_points = (4, 8, 16), 24
    config.distill.steps, config.distill.batch_size = 0, 8
    config.evaluation.scorer = "sapiens"
    config.evaluation.num_samples, config.evaluation.batch_size = 32, 8
    config.evaluation.held_out, config.evaluation.weighted, config.evaluation.paths = 16, 4, 8
    config.samplers = (
        # The network is overconfident where nearly all is masked: at this rate temperatures can reach 3 in 30 steps.
        variant(OURS, distill__steps=30, distill__learning_rate=0.05),
        *[variant(name, **{**PLAIN, **changes}) for name, changes in SAMPLERS.items()],
    )
    config.report.ours = OURS
    return _tiny(config) if variant_name else config


SAMPLERS = {
    "golden order, cosine grid": {**UNTUNED, **_COSINE},
    "Euler": {"student__kernel": "euler"},
    "Euler, T=1.5": {"student__kernel": "euler", "student__temperature": 1.5},
    "MaskGIT, cosine grid, choice T=1": {"student__kernel": "maskgit_cool", **_COSINE},
    "top-k margin": {"student__kernel": "margin"},
    "entropy": {"student__kernel": "entropy"},
    "ReMDM conf, top-p 0.9": {"student__kernel": "remdm_conf", "student__top_p": 0.9},
    "one token at a time (exact)": {"student__kernel": "first_hitting"},
}


def _tiny(config: ConfigDict) -> ConfigDict:
    """The same path in half a minute: random weights that ship, which mean nothing."""
    config.model.weights, config.evaluation.scorer = "tiny_antiberty", "antiberty:tiny_antiberty"
    config.teacher.steps, config.teacher.paths, config.student.grid_points = 16, 32, 8
    config.student.steps = (2,)
    config.evaluation.num_samples = config.evaluation.batch_size = 8
    config.evaluation.held_out, config.evaluation.weighted, config.evaluation.paths = 8, 2, 4
    config.samplers = tuple(entry for entry in config.samplers if entry[0] in (OURS, "Euler", "top-k margin"))
    return config
