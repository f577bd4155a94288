"""Make the peers' virtual environments: `python -m benchmarks.setup [NAME ...]`.

Each peer has one of its own under `.bench/` (or VITRINE_BENCH), from a pinned requirements file, so
that none decides the versions of another. An environment that is up to date is left alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from benchmarks.servers import CACHE, HERE

REQUIREMENTS = HERE / "requirements"


def make(name: str) -> bool:
    """Make the environment `name` anew, unless its requirements are those it was made from."""
    wanted = (REQUIREMENTS / f"{name}.txt").read_text()
    folder = CACHE / name
    made_from = folder / "requirements.txt"
    if made_from.is_file() and made_from.read_text() == wanted:
        return False
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r"]
    subprocess.run([*install, str(REQUIREMENTS / f"{name}.txt")], check=True)
    made_from.write_text(wanted)
    return True


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when every environment is there."""
    known = sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.setup",
        description="Make the virtual environments of the peers.",
        epilog="example: python -m benchmarks.setup triton litserve",
    )
    parser.add_argument("names", nargs="*", choices=[[], *known], help="default: all of them")
    for name in parser.parse_args(argv).names or known:
        print(f"{name}: {'made' if make(name) else 'up to date'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
