"""Sets up .venv from uv.lock with nothing but python3 and a PyPI index. Run by `make`; safe to run again.

The index is the one that pip is configured for, so a mirror works; the lock's hashes are checked wherever a file comes
from.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

UV_VERSION = "0.13.9"
ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
VENV = ROOT / ".venv"


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  # this file is what an older Python gets to run
        sys.exit(f"Concierge needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.12")
    uv = install_uv()
    environment = index_environment()
    python = VENV / "bin" / "python"
    if not python.exists():
        run([uv, "venv", "--quiet", "--python", sys.executable, VENV], environment)
    requirements = VENV / "requirements.txt"
    export = [uv, "export", "--quiet", "--frozen", "--all-groups", "--no-emit-project", "--output-file", requirements]
    run(export, environment)
    # Compiled once here, because not every machine lets Python keep what it compiles, and functions start often.
    sync = [uv, "pip", "sync", "--quiet", "--compile-bytecode", "--python", python, "--require-hashes", requirements]
    run(sync, environment)
    # The build backend is locked too, hence no isolation.
    install = [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--no-build-isolation", "-e", ROOT]
    run(install, environment)
    (VENV / ".ready").touch()


def install_uv() -> Path:
    """uv in a folder of its own: it must not depend on what it installs."""
    uv = TOOLS / "bin" / "uv"
    marker = TOOLS / f".uv-{UV_VERSION}"
    if not marker.exists():
        print(f"Setting up: uv {UV_VERSION} and the locked packages (once)...", flush=True)
        venv.create(TOOLS, with_pip=True, clear=True)
        pip = [TOOLS / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, f"uv=={UV_VERSION}"], dict(os.environ))
        marker.touch()
    return uv


def index_environment() -> dict[str, str]:
    """pip's own index and certificate settings, handed on to uv, which does not read them."""
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    for option, variable in (("global.index-url", "UV_DEFAULT_INDEX"), ("global.cert", "SSL_CERT_FILE")):
        pip = [TOOLS / "bin" / "python", "-m", "pip", "config", "get", option]
        found = subprocess.run(pip, capture_output=True, text=True, check=False)
        if found.returncode == 0 and found.stdout.strip():
            environment.setdefault(variable, found.stdout.strip())
    if "PIP_INDEX_URL" in os.environ:
        environment.setdefault("UV_DEFAULT_INDEX", os.environ["PIP_INDEX_URL"])
    return environment


def run(command: list[str | Path], environment: dict[str, str]) -> None:
    environment = {key: value for key, value in environment.items() if key != "VIRTUAL_ENV"}
    finished = subprocess.run([str(part) for part in command], env=environment, cwd=ROOT, check=False)
    if finished.returncode != 0:
        sys.exit(f"Setting up failed at: {' '.join(str(part) for part in command[:4])}")


if __name__ == "__main__":
    main()
