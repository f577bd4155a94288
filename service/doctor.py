"""`vitrine doctor`: what this machine, these settings and these models are good for."""

from __future__ import annotations

import importlib.metadata as packages
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from artifacts.manifest import BadArtifact
from artifacts.store import NotFound, Store
from service import VERSION, placement
from service.settings import Settings

PACKAGES = ("bentoml", "numpy", "pillow", "prometheus-client", "uvloop", "httptools")
RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd")

Line = tuple[bool, str]  # whether it is well, and what to print


def examine(settings: Settings) -> int:
    """Print every finding; 1 if something is wrong, with what to do about it."""
    well = True
    for section, findings in (
        ("software", _software()),
        ("machine", _machine()),
        ("execution providers", _providers(settings)),
        ("state folder", _state(settings)),
        ("models", _models(settings)),
    ):
        print(section)
        for fine, text in findings:
            print(f"  {'ok   ' if fine else 'WRONG'}  {text}")
            well &= fine
    print("all is well" if well else "something is wrong; see above")
    return 0 if well else 1


def _software() -> Iterator[Line]:
    yield True, f"vitrine {VERSION}"
    yield True, f"python {platform.python_version()}, {platform.platform()}"
    for name in PACKAGES:
        try:
            yield True, f"{name} {packages.version(name)}"
        except packages.PackageNotFoundError:
            yield False, f"{name} is not installed; pip install -e '.[cpu]'"
    found = [name for name in RUNTIMES if _installed(name)]
    if len(found) == 2:
        yield (
            False,
            "onnxruntime and onnxruntime-gpu overwrite each other; uninstall both, install one",
        )
    elif not found:
        yield False, "ONNX Runtime is not installed; pip install -e '.[cpu]' (or '.[gpu]')"
    else:
        yield True, f"{found[0]} {packages.version(found[0])}"


def _machine() -> Iterator[Line]:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.partition(":")[::2] for line in reversed(text.splitlines()) if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    useful = ", ".join(flag for flag in CPU_FLAGS if flag in flags) or "none that matter here"
    cores = len(os.sched_getaffinity(0))
    yield True, f"{fields.get('model name', platform.machine())}, {cores} cores usable"
    yield True, f"CPU features: {useful}"
    smi = shutil.which("nvidia-smi")
    if smi is None:
        yield True, "no NVIDIA driver (nvidia-smi is absent)"
        return
    query = [smi, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        yield False, "nvidia-smi is there, but fails; check the driver"
        return
    for line in answer.stdout.splitlines():
        yield True, f"GPU: {line}"


def _providers(settings: Settings) -> Iterator[Line]:
    """What is offered, and what a real session gets: missing CUDA libraries fail silently."""
    try:
        import onnxruntime

        from artifacts import model as loading
    except ImportError:
        yield False, "ONNX Runtime cannot be imported; install the extra cpu or gpu"
        return
    yield True, f"offered by ONNX Runtime: {', '.join(onnxruntime.get_available_providers())}"
    store, asked = Store(settings.state), settings.execution_provider
    try:
        name, version = next(
            (model, entry.version)
            for model, entry in store.catalog().live.items()
            if entry.version is not None
        )
        used = loading.load(store.folder(name, version), execution_provider=asked).provider
    except StopIteration:
        yield True, f"asked for: {asked}; there is no live model to try it with"
    except loading.NoProvider as error:
        yield False, str(error)
    except (BadArtifact, NotFound):
        yield True, f"asked for: {asked}; not tried, see the models below"
    else:
        yield True, f"asked for: {asked}; really used: {used}"
        if problem := placement.why_not_cuda(settings, [used]):
            meant = "mend that, or set VITRINE_EXECUTION_PROVIDER=cpu if the CPU is meant"
            yield False, f"this ONNX Runtime was built for CUDA, but {problem}; {meant}"
    found = placement.count_gpus(settings)
    count = placement.count_workers(settings, found)
    yield True, f"workers: {count}" + (f", on {found} GPUs in turn" if found else "")


def _state(settings: Settings) -> Iterator[Line]:
    state = settings.state
    if state is None:
        yield True, "none (VITRINE_STATE is empty): nothing can be published, receipts do not last"
        return
    nearest = next(folder for folder in (state, *state.absolute().parents) if folder.exists())
    if not os.access(nearest, os.W_OK):
        yield False, f"{state} cannot be written; set VITRINE_STATE to a folder that can"
        return
    free = shutil.disk_usage(nearest).free / 2**30
    yield free > 0.1, f"{state}, {free:.1f} GiB free"


def _models(settings: Settings) -> Iterator[Line]:
    from artifacts import model as loading

    store = Store(settings.state)
    try:
        catalog = store.catalog()
    except BadArtifact as error:
        yield False, str(error)
        return
    if not catalog.live:
        yield False, "no model is live; vitrine-train run NAME, then vitrine models activate"
    for model, entry in sorted(catalog.live.items()):
        if entry.version is None:
            yield True, f"{model}: unloaded"
            continue
        began = time.perf_counter()
        try:
            loaded = loading.load(store.folder(model, entry.version), execution_provider="cpu")
        except (BadArtifact, NotFound) as error:
            yield (
                False,
                f"{model} {entry.version}: {error}; or go back: vitrine models rollback {model}",
            )
            continue
        accuracy = loaded.manifest.test.get("accuracy", 0.0)
        took = time.perf_counter() - began
        yield (
            True,
            f"{model} {entry.version}: verified in {took:.2f} s, test accuracy {accuracy:.2%}",
        )
    for task, model in sorted(catalog.tasks.items()):
        known = model in catalog.live
        yield known, f"task {task}: {model}{'' if known else ', which is not live'}"


def _installed(name: str) -> bool:
    try:
        packages.version(name)
    except packages.PackageNotFoundError:
        return False
    return True
