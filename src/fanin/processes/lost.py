"""The end of a run of several processes because one of them is gone."""

from __future__ import annotations

import contextlib
import textwrap
from typing import TYPE_CHECKING

from fanin.errors import FaninError

if TYPE_CHECKING:
    from collections.abc import Iterator


class LostProcessError(FaninError):
    """Another process of the run has ended, or cannot be reached any more.

    Args:
        cause: what an exchange with it ended with.
    """

    def __init__(self, cause: Exception) -> None:
        told = textwrap.shorten(str(cause).partition("\n")[0], 160, placeholder=" ...")
        super().__init__(
            f"another process of this run has ended or cannot be reached ({told}); its own last lines say why. All "
            "checkpoints are kept: go on with fanin resume, with as many processes as you like"
        )


@contextlib.contextmanager
def exchange() -> Iterator[None]:
    """An exchange by torch.distributed, whose errors are all of one type and one meaning.

    Raises:
        LostProcessError: it fails.
    """
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(error) from error
