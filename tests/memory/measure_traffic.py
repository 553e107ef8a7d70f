"""What processes send in the steps of a run, as the system counts it: ``measure_traffic.py DATA RECIPE FOLDER N``.

For each of N processes a line of JSON: the steps that were counted, the bytes that it has sent in them by its own count
(``Processes.sent``), and those that its connections have sent and received.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

from fanin.data.formats import open_dataset
from fanin.processes.launch import joined_processes
from fanin.recipes.recipe_files import load_recipe
from fanin.runs.run_folder import RunFolder
from fanin.training import trainer
from fanin.training.followed_run import opened_by_first
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.step import train_on
from forked_processes import fork_one
from own_connections import passed


def train(data, recipe, folder):
    """Train; gives what was counted from the second step to the last."""
    counts = []

    def counted(parts, step, batch):
        parts.processes.wait()  # until all of the last step has arrived
        counts.append((parts.processes.sent, *passed()))
        parts.processes.wait()  # until all have counted, and nothing of this one has
        return train_on(parts, step, batch)

    trainer.train_on = counted
    with joined_processes() as processes:
        prepared = prepare(open_dataset(data), recipe, folder / f"cache {processes.rank}")
        with opened_by_first(processes, lambda: RunFolder.create(folder / "run", recipe, data)) as run:
            trainer.Trainer(recipe, prepared, run, Silent(), processes=processes).train()
    return [len(counts) - 2, *(after - before for before, after in zip(counts[1], counts[-1], strict=True))]


def main(data, recipe, folder, size):
    def work(rank):
        (folder / f"{rank}.json").write_text(json.dumps(train(data, recipe, folder)))
        return 0

    children = [fork_one(partial(work, rank), folder / "store", rank, size) for rank in range(size)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * size
    for rank in range(size):
        print((folder / f"{rank}.json").read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]), load_recipe(sys.argv[2], []), Path(sys.argv[3]), int(sys.argv[4]))
