"""functions/requirements.txt: what a deploy installs, exported from uv.lock. `--check` fails if it is out of date."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "functions" / "requirements.txt"
HEADER = "# Exported from uv.lock by `make requirements`; do not edit.\n"


def exported() -> str:
    """The deployed packages with their exact versions and hashes."""
    command = [str(ROOT / ".tools" / "bin" / "uv"), "export", "--frozen", "--no-default-groups", "--no-emit-project"]
    command += ["--no-header", "--no-annotate"]
    return HEADER + subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def main() -> None:
    text = exported()
    if "--check" in sys.argv[1:]:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
            sys.exit("functions/requirements.txt does not match uv.lock: run `make requirements`")
        print("functions/requirements.txt matches uv.lock")
        return
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
