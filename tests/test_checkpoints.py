import os
import signal

import jax.numpy as jnp
import pytest

from lsd_jax.checkpoints import STOPPED, Manager, StopSignal


def test_newest_state_comes_back(tmp_path):
    manager = Manager(tmp_path / "c")
    for step in (1, 2, 3):
        manager.save(step, {"a": jnp.full(3, float(step))})
    manager.close()
    state, _ = Manager(tmp_path / "c").restore_latest({"a": jnp.zeros(3)})
    assert state["a"].tolist() == [3.0, 3.0, 3.0]


def test_truncated_checkpoint_is_named(tmp_path):
    manager = Manager(tmp_path / "c")
    manager.save(5, {"a": jnp.arange(1000.0)})
    manager.close()
    for file in (tmp_path / "c" / "5").rglob("*"):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"c/5 cannot be read"):
        Manager(tmp_path / "c").restore_latest({"a": jnp.zeros(1000)})


def test_one_before_a_truncated_checkpoint_is_read(tmp_path):
    manager = Manager(tmp_path / "c")
    for step in (5, 10):
        manager.save(step, {"a": jnp.full(1000, float(step))})
    manager.close()
    for file in (tmp_path / "c" / "10").rglob("*"):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[:100])
    manager = Manager(tmp_path / "c")
    state, _ = manager.restore_latest({"a": jnp.zeros(1000)})
    assert state["a"][0] == 5
    manager.save(10, {"a": jnp.full(1000, 11.0)})  # its place is free again
    manager.close()
    assert Manager(tmp_path / "c").restore_latest({"a": jnp.zeros(1000)})[0]["a"][0] == 11
    assert len(list((tmp_path / "c.unreadable").iterdir())) == 1  # and nothing was deleted


def test_a_state_of_another_shape_moves_nothing(tmp_path):
    manager = Manager(tmp_path / "c")
    manager.save(5, {"a": jnp.zeros(3)})
    manager.close()
    with pytest.raises(ValueError, match=r"c/5 cannot be read"):
        Manager(tmp_path / "c").restore_latest({"b": jnp.zeros(4)})
    assert (tmp_path / "c" / "5").exists()


@pytest.fixture
def ctrl_c():
    """Python's own answer to SIGINT: a shell that starts tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_waits_for_the_next_step_and_after_the_last_one_does_what_it_did_before(capsys, ctrl_c):
    with pytest.raises(SystemExit, match=f"^{STOPPED}$"), StopSignal() as stop:
        assert not stop.agreed()
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.agreed()
        stop.leave(7)
    assert capsys.readouterr().err == "stopped at step 7; run the same command again to go on\n"
    with pytest.raises(KeyboardInterrupt), StopSignal() as stop:
        assert not stop.agreed()
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), StopSignal(active=False):
        os.kill(os.getpid(), signal.SIGINT)
