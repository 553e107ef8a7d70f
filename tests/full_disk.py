"""A disk that is full, as far as a process can tell: no file can become larger than a limit."""

import contextlib
import resource


@contextlib.contextmanager
def full_disk(size=1000):
    """Let every file fail to be written that becomes larger than so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
