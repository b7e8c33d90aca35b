"""The calibration by share of masks, on a network whose distribution is known."""

import jax.numpy as jnp
import numpy as np
import pytest

import lsd_jax as lsd
from measurements import mask_share

P = np.array([0.5, 0.25, 0.15, 0.1])


def model_of(log_prob):
    return lsd.Diffusion.from_function(
        lambda x, t: jnp.broadcast_to(jnp.asarray(log_prob, jnp.float32), (*x.shape, 4)),
        lsd.Absorbing(4, lsd.LogLinear()),
    )


def test_an_overconfident_network_is_found_out_with_its_temperature(monkeypatch, capsys):
    monkeypatch.setattr(mask_share, "SHARES", (0.25, 1.0))
    rng = np.random.default_rng(0)
    validation, test = (rng.choice(4, (96, 32), p=P).astype(np.int32) for _ in range(2))
    honest, sharp = (mask_share.measure(model_of(scale * np.log(P)), validation, test, 0) for scale in (1, 2))
    entropy = -(P * np.log(P)).sum()
    for plain, squared in zip(honest, sharp):
        assert plain["nats"] == pytest.approx(entropy, abs=4 * plain["standard_error"])
        assert plain["best_temperature"] == pytest.approx(1, abs=0.15) and plain["right"] == pytest.approx(
            0.5, abs=0.05
        )
        assert squared["best_temperature"] == pytest.approx(2, abs=0.3)
        assert squared["nats_at_it"] == pytest.approx(plain["nats"], abs=0.01) and squared["nats"] > plain["nats"] + 0.1
    assert "T=" in capsys.readouterr().out
    assert mask_share.bound(honest, "nats") == pytest.approx(entropy, abs=0.03)


def test_the_bound_is_the_area_under_the_curve():
    rows = [{"share": share, "nats": 2 * share} for share in (0.5, 1.0)]
    assert mask_share.bound(rows, "nats") == pytest.approx(0.5 * 1 + 0.5 * 1.5)
