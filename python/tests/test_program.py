"""The package as processes meet it: its program, signals, pytest, a locale. Without torch."""
import os
import shutil
import signal
import subprocess
import sys

import pytest

LINE = "T=48 d=24 n=16 E=6 K=2 dtype=fp32 renorm=1 seed=7"


def test_the_program_and_its_suite():
    done = subprocess.run([sys.executable, "-m", "moeref", "check", "--backend", "reference",
                           "--case", LINE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pass"), done.stdout
    listed = subprocess.run([sys.executable, "-m", "moeref", "golden"], capture_output=True,
                            text=True)
    assert "--hf" in listed.stdout and not listed.stderr, listed.stderr


INTERRUPTED = """
import os, signal, threading, time, moeref
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
begin = time.monotonic()
try:
    moeref.check("reference", case="T=4096 d=1024 n=512 E=32 K=8 dtype=fp32", exhaustive=True)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - begin < 30, flush=True)
os._exit(0)
"""


def test_ctrl_c():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True,
                          timeout=120)
    assert done.stdout.strip() == "interrupted True", done.stderr


def test_pytest_plugin(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import numpy as np\n"
        "def test_wrong(moe_check):\n"
        f"    moe_check({{'O': np.zeros((48, 24), np.float32)}}, {LINE!r}, explain=False)\n"
        "def test_line(moe_check):\n"
        "    moe_check({}, 'T=48 d=24')\n")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                           "--moeref-html", "pages", str(tmp_path)], cwd=tmp_path,
                          capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 1 and "first wrong stage: O" in done.stdout, done.stdout
    assert "::test_wrong - Failed: O: NMSE 1.00e+00 > 1.0e-11 (fp32 gate)\n" in done.stdout
    assert "::test_line - moeref.InvalidError: n (expert width) is" in done.stdout
    assert "_library.py" not in done.stdout, "an error is shown in the package, not in the test"
    assert len(os.listdir(tmp_path / "pages")) == 1


def test_the_program_ends_quietly_when_nobody_reads():
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([sys.executable, "-m", "moeref", "list"], stdout=writer,
                           stderr=subprocess.PIPE)
    os.close(writer)
    assert ended.returncode == -signal.SIGPIPE and not ended.stderr


def test_the_suite_of_the_wheel():
    """With the golden layers as pip leaves them, a __pycache__ beside them."""
    ended = subprocess.run([sys.executable, "-m", "moeref", "check", "--backend", "reference"],
                           capture_output=True, text=True)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr


def test_ranks_over_each_mpi_of_the_machine():
    """Its transports use the MPI that is installed: a copy in the wheel would not start."""
    listed = subprocess.run([sys.executable, "-m", "moeref", "list", "--names", "transports"],
                            capture_output=True, text=True, check=True).stdout.split()
    assert listed[0] == "threads"
    for name in listed:
        if name != "threads" and not shutil.which(f"mpirun.{name}"):
            continue
        ended = subprocess.run([sys.executable, "-m", "moeref", "check", "--backend", "reference",
                                "--ep", "2", "--transport", name, "--case", LINE],
                               capture_output=True, text=True)
        assert ended.returncode == 0 and "2 ranks" in ended.stdout, ended.stderr


def test_numbers_of_a_locale_with_commas(tmp_path):
    """Whoever calls setlocale gets the same numbers, JSON and lines."""
    made = subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", tmp_path / "de_DE.UTF-8"],
                          capture_output=True) if shutil.which("localedef") else None
    if not made or made.returncode:
        pytest.skip("no locale with commas can be made here")
    program = (
        "import locale, moeref, numpy; locale.setlocale(locale.LC_ALL, 'de_DE.UTF-8')\n"
        "assert locale.str(0.5) == '0,5'\n"
        "print(moeref.predict('T=8 d=64 n=32 E=4 K=2 route=zipf:1.5').total_us)\n"
        "c = moeref.case('T=8 d=16 n=8 E=4 K=2 dtype=fp32 scale=2.5', framework='numpy')\n"
        "print(c, moeref.check({'O': numpy.zeros((8, 16), numpy.float32)}, case=c))\n"
        "assert locale.str(0.5) == '0,5'\n"
        "moeref.check('reference', case=c).html('r.html')\n"
        "assert 'x1=\"0,' not in open('r.html').read()\n")
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                           cwd=tmp_path, env={**os.environ, "LOCPATH": str(tmp_path)})
    assert ended.returncode == 0, ended.stderr
    assert "scale=2.5" in ended.stdout and "NMSE 1.00e+00" in ended.stdout
