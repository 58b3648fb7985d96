"""python -m moeref is the program."""
from ._program import main

main()
