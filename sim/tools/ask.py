"""The program as scripts ask it: sys.argv[1] is its path."""
import re
import subprocess
import sys

ERRORS = re.compile(r"(>= 4 us|>= 20 us|m or T >= 1024) +(\d+) rows +mean +([\d.]+) % +"
                    r"median +([\d.]+) % +p90 +([\d.]+) % +bias +([-+\d.]+) %")


def moeref(*args):
    return subprocess.run([sys.argv[1], *args], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
