"""Trains the byte-pair tokenizer of the task `subwords`, for lsd_jax/shipped/tokenizers.

    python -m tools.make_subwords subwords_1024.json --vocab-size=1024

It sees the corpus's training blocks alone. A token is a word's beginning with the space before it, or letters from within a
word, or a lone space: none goes on past a space. All 27 symbols are tokens, so every text of them comes back exactly.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from lsd_jax.tasks import alphabet, corpus


def main() -> int:
    """The command above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=pathlib.Path, help="the .json file to write")
    parser.add_argument("--vocab-size", type=int, default=1024, help="number of tokens, at least the 27 symbols")
    arguments = parser.parse_args()
    if arguments.vocab_size < len(alphabet.SYMBOLS):
        parser.error(
            f"--vocab-size={arguments.vocab_size}: the {len(alphabet.SYMBOLS)} symbols are tokens; give as many or more"
        )
    texts = {
        split: [alphabet.decode(block) for block in blocks]
        for split, blocks in corpus.split_blocks(corpus.read_corpus()).items()
    }
    tokenizer = train(texts["train"], arguments.vocab_size)
    tokenizer.save(str(arguments.output))
    ratio = characters_per_token(tokenizer, texts["validation"])
    print(f"{tokenizer.get_vocab_size()} tokens, {ratio:.3f} characters per token of validation: {arguments.output}")
    return 0


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-pair tokenizer (Sennrich et al. 2016) of texts in the 27 symbols; the same texts give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    # A word takes the one space before it along; of several spaces the others stand alone.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(" ?[a-z]+| "), "isolated")
    tokenizer.decoder = decoders.Fuse()  # tokens are joined with nothing between them
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=list(alphabet.SYMBOLS), show_progress=False, special_tokens=[]
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def characters_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """The mean length of a token of these texts."""
    texts = list(texts)
    return sum(map(len, texts)) / sum(len(tokenizer.encode(text).ids) for text in texts)


if __name__ == "__main__":
    sys.exit(main())
