"""Write a data set with its labels numbered at random, so that neighbours by number are strangers.

Many catalogues number their labels by name or subject. Groups of neighbours by number are then not drawn at random; in
this copy they are.

    python -m benchmarks.ablation.shuffled_labels DATA OUT
"""

import sys
from pathlib import Path

import numpy as np

SEED = 0


def main(data: Path, out: Path) -> None:
    """Copy ``trn_``, ``tst_`` and ``Y.txt`` of a raw text folder under new label numbers."""
    names = (data / "Y.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    number = np.random.default_rng(SEED).permutation(len(names))  # (L,) the new one of every label
    out.mkdir(parents=True, exist_ok=True)
    (out / "Y.txt").write_text("".join(names[i] for i in np.argsort(number)), encoding="utf-8")
    for split in ("trn", "tst"):
        (out / f"{split}_X.txt").write_bytes((data / f"{split}_X.txt").read_bytes())
        with (data / f"{split}_X_Y.txt").open() as file, (out / f"{split}_X_Y.txt").open("w") as new:
            new.write(next(file))
            for line in file:
                labels = sorted(int(number[int(pair.split(":")[0])]) for pair in line.split())
                new.write(" ".join(f"{label}:1" for label in labels) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
