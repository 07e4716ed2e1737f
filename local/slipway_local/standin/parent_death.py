"""``python parent_death.py PARENT_PID PROGRAM ARG…``: become PROGRAM, and die when the parent does,
however it dies.

A program of its own, for nothing may safely run between fork and exec in a process that has
threads. It imports as little as it can.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, argv: list[str]) -> None:
    """Does not return. A program that cannot be started gives 127, as in a shell."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call above
        sys.exit(1)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - there is nothing for a shell to do
    except OSError as error:
        sys.stderr.write(f"cannot start {argv[0]}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
