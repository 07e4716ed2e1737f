"""``python parent_death.py PARENT_PID PROGRAM ARG…``: run PROGRAM with a parent-death signal.

The kernel kills PROGRAM when its parent dies. This is a separate program because a process with
threads must run as little code as possible between fork and exec; it has few imports.
"""

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int, number: signal.Signals) -> None:
    """Have the kernel send this process the signal when its parent dies; on Linux only.

    Exits with 1 when the parent has died before.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def main(parent: int, argv: list[str]) -> None:
    """Replace this process by the program; exit with 127 when it cannot be started."""
    die_with(parent, signal.SIGKILL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - there is nothing for a shell to do
    except OSError as error:
        sys.stderr.write(f"cannot start {argv[0]}: {error.strerror}\n")
        sys.exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
