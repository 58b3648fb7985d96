"""The program `moeref` of the wheel."""
import os
import sys

from ._library import HERE


def main() -> None:
    """Becomes the program, with the same arguments."""
    program = os.path.join(HERE, "bin", "moeref")
    os.execv(program, ["moeref"] + sys.argv[1:])
