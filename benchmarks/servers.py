"""The servers that are compared: how each is started, asked and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from benchmarks import forms, reference
from benchmarks.forms import Form
from benchmarks.images import load as load_images

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("VITRINE_BENCH", HERE.parent / ".bench"))
PEERS = HERE / "peers"
START_LIMIT_S = 90.0
OURS = "Vitrine"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one server runs: its port, a scratch folder of its own, and the shared model file."""

    port: int
    folder: Path
    model: Path


@dataclass(frozen=True, kw_only=True)
class Server:
    """One competitor. `environment` names its virtual environment; None is ours."""

    name: str
    environment: str | None
    command: Callable[[Place], list[str]]
    forms: tuple[Form, ...]
    ready: str = "/readyz"
    environ: Callable[[Place], dict[str, str]] = field(default=lambda _: {})
    prepare: Callable[[Place], None] = field(default=lambda _: None)

    def installed(self) -> bool:
        """Whether `python -m benchmarks.setup` has made this server's environment."""
        return self.environment is None or (CACHE / self.environment / "bin" / "python").exists()


def end_on_sigterm() -> None:
    """Let SIGTERM unwind the stack, so that the servers are ended with their benchmark."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """A started server, pinned to one core; `pause` stops the clock of all its processes."""

    def __init__(self, server: Server, place: Place, cpu: str) -> None:
        self.server, self.place = server, place
        place.folder.mkdir(parents=True, exist_ok=True)
        server.prepare(place)
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("VITRINE_", "BENTOML"))}
        environ |= {
            "BENCH_MODEL": str(place.model),
            "PYTHONPATH": str(PEERS if server.environment else HERE.parent),
            "OMP_NUM_THREADS": "1",
        }
        environ |= server.environ(place)
        self.log: IO[bytes] = (place.folder / "log.txt").open("wb")
        self.process = subprocess.Popen(
            ["taskset", "-c", cpu, *server.command(place)],
            cwd=place.folder,
            env=environ,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def wait_ready(self) -> None:
        """Return once the server says it is ready. Raises SystemExit with the end of its log."""
        url = f"http://127.0.0.1:{self.place.port}{self.server.ready}"
        limit = time.monotonic() + START_LIMIT_S
        while time.monotonic() < limit and self.process.poll() is None:
            with (
                suppress(urllib.error.URLError, ConnectionError, TimeoutError),
                urllib.request.urlopen(url, timeout=2) as answer,
            ):
                if answer.status == 200:
                    self._level()
                    return
            time.sleep(0.1)
        tail = (self.place.folder / "log.txt").read_text(errors="replace")[-3000:]
        self.stop()
        raise SystemExit(f"{self.server.name} did not start:\n{tail}")

    def processes(self) -> list[psutil.Process]:
        """Every process of the server that is alive."""
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def _level(self) -> None:
        """Give every process the scheduling weight of our own session.

        Linux weighs sessions (autogroups) before processes, and some servers start their workers
        in a session of their own: they would compete on other terms than the rest.
        """
        with suppress(OSError, IndexError):
            nice = Path("/proc/self/autogroup").read_text().split("nice ")[1]
            for process in self.processes():
                Path(f"/proc/{process.pid}/autogroup").write_text(nice)

    def cpu_s(self) -> float:
        """The processor time that all its processes have had since they started."""
        total = 0.0
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def pause(self) -> None:
        """Stop all its processes, so that it costs the others nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, politely first; returns when every process is gone."""
        processes = self.processes()
        self.resume()
        self.process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=10)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        self.log.close()

    def _signal(self, number: int) -> None:
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def _ours_prepare(place: Place) -> None:
    images = load_images(64)
    reference.publish(place.folder / "state", place.model.read_bytes(), images.pixels)


def _ours(place: Place) -> list[str]:
    return [sys.executable, "-m", "service.cli", "serve", "--port", str(place.port)]


def _ours_environ(place: Place) -> dict[str, str]:
    provider = os.environ.get("BENCH_EXECUTION_PROVIDER", "cpu")
    return {
        "VITRINE_STATE": str(place.folder / "state"),
        "VITRINE_WORKERS": "1",
        "VITRINE_EXECUTION_PROVIDER": provider,
    }


def _python(environment: str) -> str:
    return str(CACHE / environment / "bin" / "python")


def _bentoml(service: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        serve = ["-m", "bentoml", "serve", service, "--working-dir", str(PEERS)]
        return [_python("bentoml"), *serve, "--host", "127.0.0.1", "--port", str(place.port)]

    return command


def _bentoml_environ(place: Place) -> dict[str, str]:
    return {"BENTOML_HOME": str(place.folder / "home"), "BENTOML_DO_NOT_TRACK": "True"}


def _litserve(place: Place) -> list[str]:
    return [_python("litserve"), str(PEERS / "litserve_app.py"), str(place.port)]


def _mlserver_prepare(place: Place) -> None:
    (place.folder / "settings.json").write_text(
        f'{{"host": "127.0.0.1", "http_port": {place.port}, "grpc_port": {free_port()}, '
        f'"metrics_port": {free_port()}, "debug": false, "parallel_workers": 0}}'
    )
    wait = os.environ.get("BENCH_MLSERVER_WAIT_S", "0.001")
    (place.folder / "model-settings.json").write_text(
        f'{{"name": "{reference.NAME}", "implementation": "mlserver_runtime.Reference", '
        f'"max_batch_size": 64, "max_batch_time": {wait}}}'
    )


def _triton_files() -> Path:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    site = CACHE / "triton" / "lib" / f"python{version}" / "site-packages"
    return site / "pytriton" / "tritonserver"


def _triton_prepare(place: Place) -> None:
    """A model repository: the Python backend, its stub for our Python, the best queue delay."""
    backend = place.folder / "backends" / "python"
    backend.mkdir(parents=True, exist_ok=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stubs = _triton_files() / "python_backend_stubs" / version
    for file in [*(_triton_files() / "backends" / "python").glob("*.*"), *stubs.glob("triton*")]:
        if file.is_file():
            shutil.copy(file, backend / file.name)
    (backend / "triton_python_backend_stub").chmod(0o755)
    folder = place.folder / "models" / reference.NAME
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "1" / "model.py").write_text((PEERS / "triton_model.py").read_text())
    delay = os.environ.get("BENCH_TRITON_DELAY_US", "500")
    (folder / "config.pbtxt").write_text(
        f'name: "{reference.NAME}"\nbackend: "python"\nmax_batch_size: 64\n'
        'input [{ name: "images" data_type: TYPE_UINT8 dims: [28, 28] }]\n'
        'output [{ name: "probabilities" data_type: TYPE_FP32 dims: [10] }]\n'
        "instance_group [{ kind: KIND_CPU count: 1 }]\n"
        f"dynamic_batching {{ max_queue_delay_microseconds: {delay} }}\n"
    )


def _triton(place: Place) -> list[str]:
    files = _triton_files()
    threads = os.environ.get("BENCH_TRITON_HTTP_THREADS", "1")
    return [
        str(files / "bin" / "tritonserver"),
        f"--model-repository={place.folder / 'models'}",
        f"--backend-directory={place.folder / 'backends'}",
        "--http-address=127.0.0.1",
        f"--http-port={place.port}",
        f"--http-thread-count={threads}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--log-info=false",
    ]


def _triton_environ(_: Place) -> dict[str, str]:
    site = _triton_files().parents[1]
    libraries = [site / "nvidia_pytriton.libs", Path(str(sysconfig.get_config_var("LIBDIR")))]
    # The stub embeds Python, ignores PYTHONPATH and finds its packages through PATH; it needs the
    # NumPy 1 of its environment: with NumPy 2 it reads and answers empty tensors.
    return {
        "PATH": f"{CACHE / 'triton' / 'bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": ":".join(str(one) for one in libraries),
    }


_V2 = (
    forms.v2_json(reference.NAME),
    forms.v2_binary(reference.NAME),
    forms.v2_binary(reference.NAME, forms.BATCH),
)

SERVERS = (
    Server(
        name=OURS,
        environment=None,
        command=_ours,
        environ=_ours_environ,
        prepare=_ours_prepare,
        forms=(
            forms.png(f"/v1/classify/{reference.NAME}?preprocess=raw", forms.read_v1),
            forms.png(f"/v1/classify/{reference.NAME}", forms.read_v1, name="PNG, placed"),
            *_V2,
        ),
    ),
    Server(
        name="BentoML",
        environment="bentoml",
        command=_bentoml("bentoml_plain:Plain"),
        environ=_bentoml_environ,
        forms=(forms.multipart("/classify", forms.read_list),),
    ),
    Server(
        name="BentoML, batchable",
        environment="bentoml",
        command=_bentoml("bentoml_plain:Batchable"),
        environ=_bentoml_environ,
        forms=(forms.multipart("/classify", forms.read_list),),
    ),
    Server(
        name="BentoML, tuned",
        environment="bentoml",
        command=_bentoml("bentoml_tuned:Tuned"),
        environ=_bentoml_environ,
        forms=(forms.png("/raw/", forms.read_list),),
    ),
    Server(
        name="LitServe",
        environment="litserve",
        command=_litserve,
        ready="/health",
        forms=(forms.multipart("/predict", forms.read_probabilities),),
    ),
    Server(
        name="MLServer",
        environment="mlserver",
        command=lambda _: [_python("mlserver"), "-m", "mlserver.cli.main", "start", "."],
        prepare=_mlserver_prepare,
        ready="/v2/health/ready",
        forms=_V2[:1],
    ),
    Server(
        name="Triton",
        environment="triton",
        command=_triton,
        environ=_triton_environ,
        prepare=_triton_prepare,
        ready="/v2/health/ready",
        forms=_V2,
    ),
)
