"""Makes the corpus that ships with the package: `python -m tools.make_corpus FOLDER_OF_TXT OUT.xz`."""

import argparse
import lzma
import pathlib

from lsd_jax.tasks.alphabet import normalize


def join_folder(folder: pathlib.Path) -> tuple[int, str]:
    """The number of .txt files in a folder, and their normalized text joined in order of name.

    Raises:
        FileNotFoundError: no .txt file there.
    """
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise FileNotFoundError(f"no .txt file in {str(folder)!r}")
    return len(files), " ".join(normalize(file.read_text("utf-8", errors="ignore")) for file in files)


def compress(text: str) -> bytes:
    """The text as an xz file, as small as it gets."""
    return lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="folder of .txt files")
    parser.add_argument("output", type=pathlib.Path, help="the .xz file to write")
    arguments = parser.parse_args()
    count, text = join_folder(arguments.folder)
    arguments.output.write_bytes(compress(text))
    print(f"{count} files, {len(text)} characters, {arguments.output.stat().st_size} bytes: {arguments.output}")


if __name__ == "__main__":
    main()
