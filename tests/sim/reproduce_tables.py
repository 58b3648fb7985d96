"""The files of golden/timing and golden/sim that come from tests/bench/peers are what the scripts
make of them. Usage: reproduce_tables.py SOURCE_ROOT
"""
import subprocess
import sys
import tempfile
from pathlib import Path


def reproduce(script, measured, folder, names):
    with tempfile.TemporaryDirectory() as made:
        subprocess.run([sys.executable, script, *measured, made], check=True)
        for name in names:
            same = (Path(made) / name).read_bytes() == (folder / name).read_bytes()
            assert same, f"{folder / name}"


def main(root):
    timing = root / "golden/timing/h100-sxm"
    reproduce(root / "sim/tools/own_kernels.py", [timing / "kernels.json"], timing,
              ("moeref.tsv", "moeref.json"))
    reproduce(root / "sim/tools/peers_kernels.py", [timing / "peers.json", timing / "kernels.json"],
              root / "golden/sim",
              ("grouped_mm.json", "scattermoe.json", "peers.tsv", "sonicmoe_measured.tsv"))


main(Path(sys.argv[1]))
