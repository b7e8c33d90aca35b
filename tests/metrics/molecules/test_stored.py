"""MOSES' own statistics, against what the installed RDKit says of molecules of its splits."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from lsd_jax.metrics.molecules import facts, pieces, stored
from lsd_jax.tasks.smiles import moses

pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")


@pytest.mark.parametrize("part", ["test", "test_scaffolds"])
def test_the_statistics_hold_every_molecule(part):
    try:
        smiles = moses(part)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    found = facts.describe(smiles[::1000], filters=False)
    reference = stored.reference(part)
    assert len(reference.fingerprints) == len(reference.properties) == len(smiles)
    kept = {row.tobytes() for row in reference.fingerprints}
    assert all(row.tobytes() in kept for row in found.fingerprints)
    for own, all_of_them in zip(found.properties.T, np.sort(reference.properties, axis=0).T):
        place = np.searchsorted(all_of_them, own).clip(1, len(smiles) - 1)
        assert np.minimum(abs(all_of_them[place] - own), abs(all_of_them[place - 1] - own)).max() < 1e-6
    for counted, wanted in (
        (pieces.count(found.fragments), reference.fragments),
        (pieces.count(found.scaffolds), reference.scaffolds),
    ):
        # As often as in a thousandth of the molecules, within chance.
        assert all(count <= wanted[piece] for piece, count in counted.items())
        assert counted.total() * 1000 == pytest.approx(wanted.total(), rel=0.1)
    assert reference.chemnet.mean.shape == (512,) and reference.chemnet.covariance.shape == (512, 512)


@pytest.mark.parametrize(
    "content", [b"", pickle.dumps(print), pickle.dumps(np.array({"SNN": 1}, object))], ids=range(3)
)
def test_a_file_that_is_something_else_is_told_and_not_run(content, tmp_path, monkeypatch):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    folder = tmp_path / stored._FOLDER
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "test_stats.npz", "w") as archive:
        archive.writestr("stats.npy", stream.getvalue() + content)

    class Wheel:
        locate_file = staticmethod(lambda name: tmp_path / name)

    monkeypatch.setattr(stored, "_distribution", Wheel)
    with pytest.raises(ValueError, match=r"test_stats\.npz' is damaged: "):
        stored.reference("test")
    with pytest.raises(
        FileNotFoundError, match=r"its statistics are not installed; run: pip install --no-deps molsets"
    ):
        stored.reference("test_scaffolds")
