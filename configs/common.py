"""Fields that every experiment has, and entries of a study; an experiment file sets the rest."""

from typing import Any

import ml_collections


def variant(name: str, stream: str = "", **changes: Any) -> tuple[str, tuple[tuple[str, Any], ...], str]:
    """A task or a sampler of a study: `student__grid="uniform"` sets config.student.grid.

    Args:
        name: as in tables.
        stream: the name of its random stream, where it is not `name`: an entry that was renamed keeps its samples.
    """
    return name, tuple((field.replace("__", "."), value) for field, value in sorted(changes.items())), stream or name


def base_config() -> ml_collections.ConfigDict:
    """A config with every section and its defaults."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.cpu_devices = 0  # > 0 splits a CPU into this many devices
    config.parameter_shards = 1  # > 1: a network in so many parts, each on another device (docs/pods.md)

    config.data = ml_collections.ConfigDict()
    # text | subwords (vocab_size 1024) | countdown | bigram | toy | digits | cifar10 | proteins | molecules | molecules_logp |
    # molecules_qed | selfies | tokens (of a published model; no data set needed)
    config.data.name = "text"
    # text, subwords, bigram, proteins: a file of your own instead of what ships; molecules (all four): moses, qm9 or a file of SMILES;
    # cifar10: its archive; tokens: text or .npy, or none
    config.data.path = ""
    # tokens: shipped name, file, folder or hub repository; empty: samples print as numbers. subwords: a tokenizer's JSON file
    config.data.tokenizer = ""
    config.data.normalize = False  # text, subwords, bigram: reduce any file to the 27 symbols instead of failing
    config.data.sequence_length = 128
    config.data.vocab_size = 27  # proteins: 20, or 21 for chains of several lengths
    config.data.shape = ()  # images: (channels, height, width)
    config.data.mix = 0.003  # countdown, bigram, toy: share of the uniform distribution in every transition

    config.process = ml_collections.ConfigDict()
    config.process.name = "absorbing"  # absorbing | uniform | gaussian
    config.process.rate_sigma = 6.0  # gaussian: how far one jump reaches, in values
    config.process.q_sigma = 512.0  # gaussian: standard deviation of the prior
    config.process.noise = ml_collections.ConfigDict({"name": "loglinear"})
    config.process.noise.eps = 1e-3

    config.model = ml_collections.ConfigDict()
    # ddit | unet (images) | oracle (countdown, bigram, toy) | sedd | radd | mdlm | duo | antiberty (published checkpoints)
    config.model.name = "ddit"
    config.model.weights = ""  # a shipped name, a path, or owner/repository of the hub; empty: train here first
    config.model.dtype = "float32"  # float32 | bfloat16: of matrix products; logits and probabilities stay float32
    config.model.output = ""  # of a network of our own: posterior | mean | score; empty: as its file says
    config.model.dim = 192
    config.model.depth = 4
    config.model.heads = 4
    config.model.mlp_ratio = 4
    config.model.time_conditioned = False
    config.model.unet = ml_collections.ConfigDict()  # models/unet.py
    config.model.unet.ch = 128
    config.model.unet.num_res_blocks = 2
    config.model.unet.ch_mult = (1, 2, 2, 2)
    config.model.unet.attention_scale = 1
    config.model.unet.time_embed_dim = 128
    config.model.unet.fix_logistic = False

    config.training = ml_collections.ConfigDict()
    config.training.loss = "denoising"  # denoising | score_entropy | autoregressive
    config.training.steps = 9000
    config.training.batch_size = 64
    config.training.microbatch = 4  # sequences per pass on each device; small ones suit a CPU's caches
    config.training.learning_rate = 2e-3
    config.training.warmup_steps = 200
    config.training.decay_share = 0.25
    config.training.weight_decay = 0.1
    config.training.ema_decay = 0.999
    config.training.checkpoint_every = 250
    config.training.validate_every = 500
    config.training.validation_sequences = 512
    config.training.given_labels = (
        0.0  # data that begin with a label: share of the sequences whose label is never noised
    )
    config.training.start = ""  # weights that training starts from, a shipped name or a path; empty: at random

    config.teacher = ml_collections.ConfigDict()
    config.teacher.source = "samples"  # samples (the network, run in N steps) | data (paths to training sequences)
    config.teacher.steps = 1024  # N
    config.teacher.paths = 64
    config.teacher.cache = ""  # a file of teacher paths from an earlier run; empty: the run's own folder

    config.student = ml_collections.ConfigDict()
    config.student.steps = (4, 8, 16, 32)  # M: each is distilled
    config.student.kernel = "tweedie"  # euler | tweedie | ancestral, or any kernel of docs/samplers.md
    config.student.coefficient = "score"  # score (the paper's eq. 5) | log_score (the authors' code)
    config.student.temperature = 1.0  # where the student starts, and stays if distill.steps is 0
    config.student.top_p = 1.0  # tokens are drawn from the smallest set with this share of the probability; 1: all
    # Of adaptive event samplers. 0: fitted, so that the steps are the mean over sequences; else the steps are the most.
    config.student.threshold = 0.0
    config.student.grid = "optimal"  # optimal (shortest path) | uniform | jys (KLUB) | halving | profile (random order)
    config.student.grid_points = 128  # candidate times of the cost table
    config.student.refine = False  # move the grid off the candidate times where unseen paths agree
    config.student.draws = 1  # reveal orders per teacher path in the cost table
    config.student.order = "auto"  # fixed (the coupling's) | auto (the cost table chooses) | learned (local search)
    config.student.order_trials = 200
    # Sequences that pair potentials between the tokens of one step are fitted on; 0: none. Absorbing: between tokens revealed
    # together. Uniform: between all neighbors, with coupling iid, and grid "optimal" is that given the potentials.
    config.student.potentials = 0
    config.student.coupling = ml_collections.ConfigDict()
    config.student.coupling.name = "low_discrepancy"  # iid | shared | low_discrepancy
    config.student.coupling.generator = (
        "golden"  # golden | sqrt2 | sqrt3 | van_der_corput | pattern | r2 | halton | dither
    )
    config.student.coupling.pattern = ()
    config.student.coupling.shape = ()  # (rows, columns) of an image

    config.distill = ml_collections.ConfigDict()
    config.distill.objective = "path_kl"  # path_kl | reverse_path_kl | kl_mix | score_alignment | effective_transition
    config.distill.steps = 60
    config.distill.batch_size = 16
    config.distill.draws = 1  # bridges per teacher path (path_kl, reverse_path_kl, kl_mix)
    config.distill.learning_rate = 0.01
    config.distill.checkpoint_every = 20
    config.distill.reverse_share = 0.5  # kl_mix: 0 as diverse as the teacher, 1 as precise as possible
    config.distill.alignment = ml_collections.ConfigDict()  # score_alignment, effective_transition
    config.distill.alignment.distance = "l2"  # l2 | kl
    config.distill.alignment.noise = "shared"  # shared (the teacher's uniforms) | independent
    config.distill.alignment.gradient = "detached"  # detached (the paper's) | unrolled (through the student's path)
    config.distill.alignment.radius = 0.05  # zeta: Hamming distance of the student's prior state, share of the length
    config.distill.alignment.literal = False  # effective_transition: eq. 8 as printed instead of summed

    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.scorer = ""  # weights of the autoregressive scorer; proteins: sapiens; empty: no gen-PPL
    config.evaluation.protocol = ""  # empty: our own scorer | jys, mdlm: GPT-2, by these papers' conventions
    config.evaluation.features = ""  # images: the Frechet distance's feature network, a shipped name or a file
    config.evaluation.feature_statistics = ""  # its reference (.npz: mu, sigma); empty: from the training split
    config.evaluation.references = 1024  # test sequences that stand for real data where features are compared; 0: all
    config.evaluation.num_samples = 128
    config.evaluation.batch_size = 64
    config.evaluation.held_out = 256  # test sequences for the M-step ELBO; 0: none
    config.evaluation.weighted = 32  # the first of them, for the importance-weighted -log p; 0: none
    config.evaluation.paths = 16  # K per sequence that it is weighted over
    config.evaluation.reference_steps = 128  # the many-step sampler
    config.evaluation.temperatures = (0.9, 0.8)  # the control: Euler at these temperatures
    config.evaluation.resamples = 200  # of sequences, for the intervals of samples' metrics; 0: no intervals
    config.evaluation.degenerate = False  # degenerate baselines beside the samplers, where the task has some
    config.evaluation.floor_draws = 0  # repeated draws of real data for the floor of every metric; 0: no floor

    config.verify = ml_collections.ConfigDict()  # --stage=verify: the network's likelihood against a known one
    config.verify.path = ""  # a text or .npy file; empty: config.data.path
    config.verify.perplexity = 0.0  # the known one; 0: none
    config.verify.tolerance = 0.1  # relative
    config.verify.sequences = 64

    # The study: every task x sampler x budget x seed is a cell. Empty: this config, our student beside untuned samplers
    # (lsd_jax/experiment/study.py), the numbers of steps of the student, and the seed.
    config.tasks = ()
    config.samplers = ()
    # Budgets of network evaluations; empty: config.student.steps. A sampler that changes student.steps keeps its own.
    config.nfe = ()
    config.seeds = ()
    config.stream = (
        "{name}_{steps}"  # the random stream of a cell, from its sampler's {name} or {slug}, {steps} and {seed}
    )

    config.report = ml_collections.ConfigDict()
    config.report.ours = "path-KL student"  # the sampler that others are tested against
    config.report.figure_samplers = ()  # drawn in color; empty: all
    config.report.frontier_steps = ()  # where quality is drawn against diversity
    config.report.frontier_mix = ()  # samplers along the forward-reverse KL mix
    config.report.frontier_temperatures = ()  # samplers of a plain temperature sweep
    return config
