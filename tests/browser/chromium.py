"""Find a Chromium that runs, or install one: `python tests/browser/chromium.py` prints where it is.

Looked for in this order: one that is on the machine, Debian's package where apt can be used, Playwright's own.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
# Software WebGL, and none of the traffic that a fresh profile starts by itself.
LAUNCH_ARGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find() -> str | None:
    """Return the path of a Chromium that runs, or None."""
    there = [shutil.which(name) for name in NAMES] + [app for app in APPS if Path(app).exists()]
    if path := next((path for path in there if path and _runs(path)), None):
        return path
    own = _playwrights_own()
    return own if own and _runs(own) else None


def install() -> str | None:
    """Install a Chromium, from Debian where apt can be used, else from Playwright; return its path or None."""
    as_root = [] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["sudo", "-n"]
    may = not as_root or _works(["sudo", "-n", "true"])
    if may and shutil.which("apt-get"):
        _works([*as_root, "apt-get", "update", "-q"])
        _works([*as_root, "apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"])
        if path := find():
            return path
    command = [sys.executable, "-m", "playwright", "install", *(["--with-deps"] if may else []), "chromium"]
    _works(command)
    return find()


def _playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def _runs(path: str) -> bool:
    # A snap's stand-in answers to the name and cannot run, so the program itself is asked.
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, check=False, stdout=sys.stderr).returncode == 0
    except OSError:
        return False


def main() -> int:
    """Print the path of a Chromium, installing one where there is none."""
    path = find() or install()
    if path is None:
        sys.stderr.write(
            "The browser tests need Chromium: none was found, and neither apt nor Playwright could install one.\n"
            "Install Chromium or Chrome so that it is on the PATH, and run this again.\n"
        )
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
