"""Configs that are small enough for a test."""

from lsd_jax.configs import countdown

TINY = {
    "data.vocab_size": 8,
    "data.sequence_length": 24,
    "data.mix": 0.01,
    "teacher.steps": 24,
    "teacher.paths": 32,
    "student.grid_points": 24,
    "student.steps": (2, 4),
    "distill.steps": 10,
    "distill.batch_size": 8,
    "evaluation.num_samples": 64,
    "evaluation.batch_size": 64,
    "evaluation.held_out": 64,
    "evaluation.reference_steps": 8,
    "evaluation.temperatures": (0.8,),
}


def tiny(**changes):
    """Countdown with eight tokens, 24 per sequence."""
    config = countdown.get_config()
    config.update_from_flattened_dict({**TINY, **changes})
    return config
