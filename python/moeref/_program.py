"""The program `moeref` of the wheel."""
import os
import signal
import sys

from ._library import HERE


def main() -> None:
    """Becomes the program, with the same arguments."""
    program = os.path.join(HERE, "bin", "moeref")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and so would the program
    os.execv(program, ["moeref"] + sys.argv[1:])
