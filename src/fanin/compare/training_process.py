"""A training in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_fanin(arguments: Sequence[str], lock: int) -> int:
    """Run a command of fanin to its end; what it says on standard error is shown.

    Args:
        arguments: of the command line.
        lock: a descriptor that the process inherits.

    Returns:
        The exit code, negative after a signal that ended it.

    Raises:
        KeyboardInterrupt: Ctrl-C; the process has been given the time to save where it stands.
    """
    command = [sys.executable, "-m", "fanin", *arguments]
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=(lock,)
    ) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)  # a terminal has sent it already, but not whoever signals this process
            process.wait()
            raise
