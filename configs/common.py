"""Fields that every experiment has; an experiment file sets the rest."""

import ml_collections


def base_config() -> ml_collections.ConfigDict:
    """A config with every section and its defaults."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.cpu_devices = 0  # > 0 splits a CPU into this many devices

    config.data = ml_collections.ConfigDict()
    config.data.name = "text"  # text | countdown
    config.data.path = ""  # text: a file of your own instead of the shipped corpus
    config.data.normalize = False  # text: reduce any file to the 27 symbols instead of failing
    config.data.sequence_length = 128
    config.data.vocab_size = 27
    config.data.mix = 0.003  # countdown: share of the uniform law in every transition

    config.process = ml_collections.ConfigDict()
    config.process.name = "absorbing"  # absorbing | uniform
    config.process.noise = ml_collections.ConfigDict({"name": "loglinear"})
    config.process.noise.eps = 1e-3

    config.model = ml_collections.ConfigDict()
    config.model.name = "ddit"  # ddit | oracle (countdown only)
    config.model.weights = ""  # a shipped file's name, or a path; empty: train into the run directory first
    config.model.parameterization = "posterior"  # posterior (RADD, MDLM) | score (SEDD)
    config.model.dim = 192
    config.model.depth = 4
    config.model.heads = 4
    config.model.mlp_ratio = 4
    config.model.time_conditioned = False

    config.training = ml_collections.ConfigDict()
    config.training.loss = "denoising"  # denoising | score_entropy | autoregressive
    config.training.steps = 9000
    config.training.batch_size = 64
    config.training.microbatch = 4  # sequences a pass on each device; small ones suit a CPU's caches
    config.training.learning_rate = 2e-3
    config.training.warmup_steps = 200
    config.training.decay_share = 0.25
    config.training.weight_decay = 0.1
    config.training.ema_decay = 0.999
    config.training.checkpoint_every = 250
    config.training.validate_every = 500
    config.training.validation_sequences = 512

    config.teacher = ml_collections.ConfigDict()
    config.teacher.source = "samples"  # samples (the network, run in N steps) | data (paths to training sequences)
    config.teacher.steps = 1024  # N
    config.teacher.paths = 64
    config.teacher.cache = ""  # a file of teacher paths from an earlier run; empty: the run's own folder

    config.student = ml_collections.ConfigDict()
    config.student.steps = (4, 8, 16, 32)  # M: each is distilled
    config.student.kernel = "tweedie"  # euler | tweedie | ancestral
    config.student.coefficient = "score"  # score (the paper's eq. 5) | log_score (the authors' code)
    config.student.temperature = 1.0  # where the student starts, and stays if distill.steps is 0
    config.student.grid = (
        "optimal"  # optimal (shortest path) | uniform | greedy (JYS's halving) | profile (random order)
    )
    config.student.grid_points = 128  # candidate times of the cost table
    config.student.refine = False  # move the grid off the candidate times where unseen paths agree
    config.student.draws = 1  # reveal orders a teacher path in the cost table
    config.student.order = "auto"  # fixed (the coupling's) | auto (the cost table chooses) | learned (local search)
    config.student.order_trials = 200
    # Sequences that potentials between the tokens of one step are fitted on; 0: none. Absorbing: between tokens revealed
    # together. Uniform: between all neighbours, with coupling iid, and grid "optimal" is that given the potentials.
    config.student.neighbours = 0
    config.student.coupling = ml_collections.ConfigDict()
    config.student.coupling.name = "low_discrepancy"  # iid | shared | low_discrepancy
    config.student.coupling.generator = (
        "golden"  # golden | sqrt2 | sqrt3 | van_der_corput | pattern | r2 | halton | dither
    )
    config.student.coupling.pattern = ()
    config.student.coupling.shape = ()  # (rows, columns) of an image

    config.distill = ml_collections.ConfigDict()
    config.distill.objective = "path_kl"  # path_kl | reverse_path_kl | dial | score_alignment | effective_transition
    config.distill.steps = 60
    config.distill.batch_size = 16
    config.distill.draws = 1  # bridges a teacher path (path_kl, reverse_path_kl, dial)
    config.distill.learning_rate = 0.01
    config.distill.checkpoint_every = 20
    config.distill.precision = 0.5  # dial: 0 as diverse as the teacher, 1 as precise as possible
    config.distill.alignment = ml_collections.ConfigDict()  # score_alignment, effective_transition
    config.distill.alignment.distance = "l2"  # l2 | kl
    config.distill.alignment.noise = "shared"  # shared (the teacher's uniforms) | independent
    config.distill.alignment.gradient = "detached"  # detached (the paper's) | unrolled (through the student's path)
    config.distill.alignment.radius = 0.05  # zeta: Hamming distance of the student's prior state, share of the length
    config.distill.alignment.literal = False  # effective_transition: eq. 8 as printed instead of summed

    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.scorer = ""  # weights of the autoregressive scorer; empty: no gen-PPL
    config.evaluation.num_samples = 128
    config.evaluation.batch_size = 64
    config.evaluation.held_out = 256  # test sequences for the bound; 0: no bound
    config.evaluation.reference_steps = 128  # the many-step sampler
    config.evaluation.temperatures = (0.9, 0.8)  # the control: Euler at these temperatures
    config.evaluation.bootstrap = True  # intervals of samples' metrics by resampling sequences

    # Ablations (lsd_jax/ablation.py): every variant x student.steps x seed is a cell.
    config.variants = ()
    config.seeds = (0,)
    config.figure_variants = ()  # drawn against NFE
    config.frontier = ml_collections.ConfigDict({"steps": (), "dial": (), "temperatures": ()})
    return config
