"""The cost of the stop question: every way of asking is timed, in processes of their own."""

from measurements import stop_cost


def test_every_way_is_timed():
    found = stop_cost.milliseconds(steps=5, size=8)
    assert list(found) == ["nothing", "later", "now"] and all(0 < value < 1000 for value in found.values())
