"""The files of golden/timing are what its script makes of peers.json; every kernel of other people's layers in it has
a name that the model knows, the same as in golden/sim. Usage: reproduce_tables.py SOURCE_ROOT MOEREF
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def names(path):
    return [[k["name"] for k in entry["kernels"]] for entry in json.loads(path.read_text())["bench"]]


def main(root, moeref):
    timing = root / "golden/timing/h100-sxm"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        subprocess.run([sys.executable, root / "golden/timing/tables.py", timing / "peers.json", made], check=True)
        subprocess.run([sys.executable, root / "sim/peers_kernels.py", *[timing / "peers.json"] * 2, made], check=True)
        for name in ("moeref.tsv", "moeref.json"):
            assert (made / name).read_bytes() == (timing / name).read_bytes(), f"{name} is not what tables.py writes"
        for peer in ("grouped_mm", "scattermoe"):
            known = names(root / f"golden/sim/{peer}.json")[0]
            assert names(made / f"{peer}.json") and all(n == known for n in names(made / f"{peer}.json")), peer
            subprocess.run([moeref, "calibrate", "--from", made / f"{peer}.json", "--method", peer], check=True)
        subprocess.run([moeref, "calibrate", "--from", made / "peers.tsv", "--kernel", "cublas"], check=True)


main(Path(sys.argv[1]), sys.argv[2])
