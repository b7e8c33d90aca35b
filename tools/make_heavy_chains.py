"""Draws human heavy chains as a B cell first makes them, from OLGA's model of recombination, for lsd_jax/shipped/corpus.

    pip install --no-deps olga==1.3.0 && pip install scipy
    python -m tools.make_heavy_chains heavy_chains.txt.xz --length=121 --count=4096

OLGA (Sethna et al. 2019) draws the genes V, D and J, what is cut from their ends and what is inserted between them, with
probabilities that IGoR (Marcou et al. 2018) inferred from sequenced repertoires. Chains of other lengths are drawn and left out.
"""

import argparse
import itertools
import lzma
import pathlib
import sys
from collections.abc import Iterator

import numpy as np


def main() -> int:
    """The command above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=pathlib.Path, help="an .xz file, one chain per line")
    parser.add_argument("--length", type=int, default=121, help="amino acids per chain; 0: as they come")
    parser.add_argument("--count", type=int, default=4096, help="chains")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    np.random.seed(arguments.seed)  # noqa: NPY002  OLGA draws from numpy's global state
    chosen = (chain for chain in heavy_chains() if arguments.length in (0, len(chain)))
    rows = list(itertools.islice(chosen, arguments.count))
    arguments.output.write_bytes(lzma.compress(("\n".join(rows) + "\n").encode(), preset=9))
    shortest, longest = min(map(len, rows)), max(map(len, rows))
    print(f"{len(rows)} chains of {shortest} to {longest} amino acids, {len(set(rows))} distinct: {arguments.output}")
    return 0


def heavy_chains() -> Iterator[str]:
    """Endless variable regions of human heavy chains, in amino acids."""
    import olga.load_model as load
    import olga.sequence_generation as generation
    from olga.utils import nt2aa

    folder = pathlib.Path(load.__file__).parent / "default_models" / "human_B_heavy"
    anchors = {gene: folder / f"{gene}_gene_CDR3_anchors.csv" for gene in "VJ"}
    genes = load.GenomicDataVDJ()
    genes.load_igor_genomic_data(str(folder / "model_params.txt"), str(anchors["V"]), str(anchors["J"]))
    model = load.GenerativeModelVDJ()
    model.load_and_process_igor_model(str(folder / "model_marginals.txt"))
    draws, v_start, j_start = (
        generation.SequenceGenerationVDJ(model, genes),
        _starts(anchors["V"]),
        _starts(anchors["J"]),
    )
    while True:
        cdr3, _, v, j = draws.gen_rnd_prod_CDR3()
        (v_name, _, v_gene), (j_name, _, j_gene) = genes.genV[v], genes.genJ[j]
        # CDR3 holds the conserved cysteine of V and the conserved tryptophan of J: V ends before it, J goes on after it.
        chain = v_gene[: v_start[v_name]] + cdr3 + j_gene[j_start[j_name] + 3 :]
        yield nt2aa(chain[: len(chain) // 3 * 3])


def _starts(anchors: pathlib.Path) -> dict[str, int]:
    """gene -> the place of its conserved codon."""
    rows = [line.split(",") for line in anchors.read_text().split()[1:]]
    return {row[0]: int(row[1]) for row in rows}


if __name__ == "__main__":
    sys.exit(main())
