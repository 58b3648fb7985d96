"""Stages that a device computed, held to the emulated tensor core: bits.py MOEREF FOLDER.

Lines of cases.txt whose file is not there are left out; with none at all there is nothing to test
(exit 77)."""
import pathlib
import subprocess
import sys


def main():
    moeref, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    wrong = count = 0
    for line in (folder / "cases.txt").read_text(encoding="utf-8").splitlines():
        name, backend, case = line.split("|")
        file = folder / f"{name}.safetensors"
        if not file.exists():
            continue
        count += 1
        done = subprocess.run([moeref, "check", "--outputs", str(file), "--case", case, "--bits",
                               "sm_90+gates_first+fused+weighs_sums"], capture_output=True,
                              text=True, check=False)
        stages = done.stdout.count("bit for bit in all of")
        print(f"{name} ({backend}): exit {done.returncode}, {stages} stages bit for bit")
        if done.returncode or stages < 9:
            print(done.stdout)
            wrong += 1
    if count == 0:
        print("no file of a device is there")
        return 77
    return wrong != 0


sys.exit(main())
