"""What processes send in the steps of a run, as the system counts it: ``measure_traffic.py DATA RECIPE FOLDER N``.

For each of N processes a line of JSON: the steps that were counted, the bytes that it has sent in them by its own count
(``Processes.sent``), and those that its connections have sent and received.
"""

import json
import os
import sys
import traceback
from pathlib import Path

import torch

from fanin.data.formats import open_dataset
from fanin.processes.launch import joined_processes
from fanin.recipes.recipe_files import load_recipe
from fanin.runs.run_folder import RunFolder
from fanin.training import trainer
from fanin.training.followed_run import opened_by_first
from fanin.training.preparation import prepare
from fanin.training.progress import Silent
from fanin.training.step import train_on
from meeting_file import meet_by
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


def become(rank, size, data, recipe, folder):
    """Train as one of so many processes, and end."""
    code = 1
    try:
        torch.set_num_threads(1)
        meet_by(folder / "store", rank, size)
        (folder / f"{rank}.json").write_text(json.dumps(train(data, recipe, folder)))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(data, recipe, folder, size):
    children = []
    for rank in range(size):
        pid = os.fork()
        if not pid:
            become(rank, size, data, recipe, folder)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * size
    for rank in range(size):
        print((folder / f"{rank}.json").read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]), load_recipe(sys.argv[2], []), Path(sys.argv[3]), int(sys.argv[4]))
