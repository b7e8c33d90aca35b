"""The growth of memory and logs is read between a fifth of a phase and its last step."""

from measurements import soak


def sample(phase, step, resident, logs):
    return {"phase": phase, "step": step, "resident_mb": resident, "logs_bytes": logs, "checkpoints_bytes": 7}


def test_growth_is_that_of_a_phase_alone():
    samples = [
        sample("", 0, 1.0, 0),  # start-up
        sample("training", 100, 50.0, 100),  # compiling
        sample("training", 1000, 60.0, 1000),
        sample("training", 5000, 61.0, 9000),
        sample("training", 5000, 99.0, 9500),  # another stage, before the next phase's first line
        sample("optimization", 5000, 99.0, 9500),
    ]
    (name, found), *more = soak.growth(samples, dict.fromkeys(soak.PHASES, 5000)).items()
    assert name == "training" and not more
    assert found["resident_mb_early"] == 60.0 and found["resident_mb_late"] == found["resident_mb_most"] == 61.0
    assert found["logs_bytes_per_1000_steps"] == 2000
