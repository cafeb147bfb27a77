"""Drive a real JupyterLab: start a server of its own, open a notebook, run it, and look at what comes out.

Nothing of the user's Jupyter is seen or touched: settings, extensions, kernels and runtime files have folders of
their own.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import nbformat
from playwright.sync_api import Locator, Page

REPO = Path(__file__).resolve().parents[2]

# JupyterLab looks for news and extensions on the network, which a test has no business with.
LAB_CONFIG = {"LabApp": {"news_url": None, "check_for_updates_class": "jupyterlab.NeverCheckForUpdate"}}
PAGE_CONFIG = {
    "disabledExtensions": {
        "@jupyterlab/apputils-extension:announcements": True,
        "@jupyterlab/extensionmanager-extension": True,
    }
}

# What JupyterLab itself complains about where all is in order, as whole texts, each with the reason.
HARMLESS: tuple[str, ...] = (
    # A page was closed while the server was writing a message of the kernel to it. The server waits for no such write,
    # so nobody hears of its end but Python, when it throws the task away.
    r"""Task exception was never retrieved
future: <Task finished name='Task-\d+' coro=<WebSocketProtocol13\.write_message\.<locals>\.wrapper\(\) done, .*>
Traceback \(most recent call last\):
  File ".*websocket\.py", line \d+, in wrapper
    await fut
tornado\.iostream\.StreamClosedError: .*

During handling of the above exception, another exception occurred:

Traceback \(most recent call last\):
  File ".*websocket\.py", line \d+, in wrapper
    raise WebSocketClosedError\(\)
tornado\.websocket\.WebSocketClosedError""",
)

_CURRENT = """
const panel = window.jupyterapp.shell.currentWidget;
const notebook = panel.content;
const kernel = () => panel.sessionContext.session.kernel;
"""
_LATE = """
const late = (ms) => new Promise((_, no) => setTimeout(() => no(new Error(`not done after ${ms / 1000} s`)), ms));
"""
_LISTEN = """
window.kernelComplaints = [];
panel.sessionContext.iopubMessage.connect((_, { header, content }) => {
    if (header.msg_type === "error") window.kernelComplaints.push(content.traceback.join("\\n"));
    if (header.msg_type === "stream" && content.name === "stderr" && /Traceback|Error/.test(content.text))
        window.kernelComplaints.push(content.text);
});
"""


def until(page: Page, holds: Callable[[], bool], *, seconds: float = 60) -> None:
    """Ask again and again until it holds, while the page lives on: however slow a machine is, no moment is missed."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so within {seconds:g} s"
        page.wait_for_timeout(50)


def in_earnest(complaints: Iterable[str]) -> list[str]:
    """Return the complaints that are not known to be harmless."""
    return [text for text in complaints if not any(re.fullmatch(known, text) for known in HARMLESS)]


class Server:
    """A JupyterLab server on a free port of this machine, serving a copy of the notebooks."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.log = folder / "server.log"
        self.token = secrets.token_hex(16)
        shutil.copytree(
            REPO / "notebooks", self.root / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints")
        )
        config = folder / "config"
        (config / "labconfig").mkdir(parents=True)
        (config / "jupyter_lab_config.json").write_text(json.dumps(LAB_CONFIG))
        (config / "labconfig" / "page_config.json").write_text(json.dumps(PAGE_CONFIG))
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON"))},
            "JUPYTER_CONFIG_DIR": str(config),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
            "IPYTHONDIR": str(folder / "ipython"),
            "VIRTUAL_ENV": sys.prefix,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        }

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
        command += ["--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}"]
        command += [f"--IdentityProvider.token={self.token}", "--LabApp.expose_app_in_browser=True"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-root")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._environment, cwd=self.root
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                self.ask("GET", "status")
                return
            except (urllib.error.URLError, OSError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text()}") from None
                time.sleep(0.2)

    def stop(self) -> None:
        """End the server; it ends its kernels."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, method: str, what: str) -> object:
        """Call the server's REST interface, for instance ("GET", "sessions")."""
        request = urllib.request.Request(f"{self.url}/api/{what}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def end_kernels(self) -> None:
        """End every kernel that a test has left behind."""
        for session in self.ask("GET", "sessions"):
            self.ask("DELETE", f"sessions/{session['id']}")

    def complaints(self, start: int = 0) -> list[str]:
        """Return what the server and its kernels have complained about since byte `start` of the log, each in full."""
        text = self.log.read_bytes()[start:].decode(errors="replace")
        # A record begins with a letter and a time, or is asyncio's; what follows belongs to it, a whole traceback too.
        records = re.split(r"^(?=\[[A-Z] \d{4}-|Task exception was never retrieved$)", text, flags=re.MULTILINE)
        wrong = re.compile(r"^(\[[EC] |Traceback|[\w.]*(Error|Exception)\b)", re.MULTILINE)
        return [record.strip() for record in records if wrong.search(record)]


class Lab:
    """One JupyterLab page with one notebook: what a user sees and does, in words."""

    def __init__(self, page: Page, server: Server, screenshots: Path) -> None:
        self.page = page
        self.server = server
        self.screenshots = screenshots
        self._log_read = server.log.stat().st_size

    def open(self, name: str) -> None:
        """Open a notebook by its path under the server's root, for instance "notebooks/01_explore.ipynb"."""
        self.page.goto(f"{self.server.url}/lab/tree/{name}?reset&token={self.server.token}")
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=120_000)
        self.page.wait_for_function(
            f"""() => {{
                if (!window.jupyterapp?.shell.currentWidget?.sessionContext) return false;
                {_CURRENT}
                return panel.sessionContext.isReady && kernel()?.status === "idle";
            }}""",
            timeout=120_000,
        )
        # An error in a widget's callback belongs to no cell: a user sees it in the log console only.
        self.page.evaluate(f"() => {{ {_CURRENT} {_LISTEN} }}")

    def open_cells(self, *sources: str) -> None:
        """Write a notebook of these code cells and open it."""
        name = f"written_{secrets.token_hex(4)}.ipynb"
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), self.server.root / name)
        self.open(name)

    def run_all(self, *, seconds: float = 300) -> None:
        """Run every cell and wait until each has run and the kernel is idle; a cell's error is an AssertionError."""
        self.page.evaluate(
            f"async (ms) => {{ {_CURRENT} {_LATE} "
            "await Promise.race([window.jupyterapp.commands.execute('notebook:run-all-cells'), late(ms)]); }",
            seconds * 1000,
        )
        self.page.wait_for_function(f"() => {{ {_CURRENT} return kernel().status === 'idle'; }}")
        errors = [_error_text(output) for cell in self.outputs() for output in cell if output["output_type"] == "error"]
        assert not errors, "a cell raised:\n" + "\n".join(errors)
        counts = self.page.evaluate(
            f"() => {{ {_CURRENT} return [...notebook.model.cells]"
            ".filter((cell) => cell.type === 'code' && cell.sharedModel.source.trim())"
            ".map((cell) => cell.executionCount); }"
        )
        assert all(counts), f"not every cell has run: execution counts {counts}"

    def outputs(self) -> list[list[dict]]:
        """Return the outputs of every cell, as they stand in the notebook file; a text cell has none."""
        return self.page.evaluate(
            f"() => {{ {_CURRENT} return [...notebook.model.cells].map("
            "(cell) => cell.type === 'code' ? cell.outputs.toJSON() : []); }"
        )

    def text(self, cell: int) -> str:
        """Return what a cell printed and the text form of its value."""
        return "".join(_text(output) for output in self.outputs()[cell]).strip()

    def cell(self, cell: int) -> Locator:
        """Scroll to a cell, counted from 0 and text cells included, and return it."""
        self.page.evaluate(
            f"async (index) => {{ {_CURRENT} await notebook.scrollToItem(index, 'start'); }}",
            cell,
        )
        found = self.page.locator(f'.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell[data-windowed-list-index="{cell}"]')
        found.wait_for()
        return found

    def python(self, code: str, *, seconds: float = 60) -> str:
        """Run code in the notebook's kernel, without touching the notebook, and return what it prints and its value."""
        outputs = self.page.evaluate(
            f"""async ([code, ms]) => {{
                {_CURRENT} {_LATE}
                const outputs = [];
                const future = kernel().requestExecute({{ code, store_history: false }});
                future.onIOPub = (message) => {{
                    const type = message.header.msg_type;
                    if (["stream", "execute_result", "display_data", "error"].includes(type))
                        outputs.push({{ output_type: type, ...message.content }});
                }};
                await Promise.race([future.done, late(ms)]);
                return outputs;
            }}""",
            [code, seconds * 1000],
        )
        errors = [_error_text(output) for output in outputs if output["output_type"] == "error"]
        assert not errors, "the code raised:\n" + "\n".join(errors)
        return "".join(_text(output) for output in outputs).strip()

    def complaints(self) -> list[str]:
        """Return, once, every error in the kernel since the last call: of cells, of callbacks, of the server's log."""
        script = "() => (window.kernelComplaints ?? []).splice(0)"
        texts = [] if self.page.is_closed() else [_plain(text) for text in self.page.evaluate(script)]
        start, self._log_read = self._log_read, self.server.log.stat().st_size
        return texts + self.server.complaints(start)

    def screenshot(self, name: str) -> Path:
        """Save what is on the screen as a PNG; the folder is named at the end of the run."""
        path = self.screenshots / f"{name}.png"
        self.page.screenshot(path=path)
        return path


def _text(output: dict) -> str:
    text = output["text"] if output["output_type"] == "stream" else output["data"].get("text/plain", "")
    return text if isinstance(text, str) else "".join(text)


def _error_text(output: dict) -> str:
    return _plain("\n".join(output["traceback"]))


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
