"""The `vitrine` command: serve, models, doctor, score, feedback."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from artifacts.manifest import BadArtifact
from artifacts.store import NotFound, ReadOnly, Store
from service.score import command as scoring
from service.settings import BadSetting, Settings

MISUSE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 all good, 1 something is wrong, 2 misuse."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        settings = Settings.from_env(os.environ)
        return int(arguments.run(arguments, settings))
    except BadSetting as error:
        print(f"vitrine: {error}", file=sys.stderr)
        return MISUSE
    except (NotFound, ReadOnly, BadArtifact) as error:
        print(f"vitrine: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vitrine",
        description="Serve image classifiers, and look after the models that are served.",
        epilog="Every setting is a VITRINE_* variable of the environment; see docs/operations.md.\n"
        "example: vitrine serve --port 3000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help_: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog=f"example: {example}",
        )

    serve = command("serve", "start the HTTP service", "vitrine serve --port 3000 --workers 2")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serve.add_argument("--port", type=_port, default=3000, help="port to listen on (%(default)s)")
    serve.add_argument("--workers", help="processes; one for each core, or GPU, if not given")
    serve.add_argument("--execution-provider", help="auto, cpu or cuda")
    serve.add_argument("--state", help="the folder for everything written at run time")
    serve.set_defaults(run=_serve)

    models = command("models", "list the models, or change which version is live", "vitrine models")
    verbs = models.add_subparsers(metavar="VERB")
    models.set_defaults(run=_list_models)
    for name, help_, names in (
        ("activate", "make a version live", ("model", "version")),
        ("rollback", "go back to the version that was live before", ("model",)),
        ("unload", "serve the model no more, until a version is activated", ("model",)),
        ("point", "let a task's name stand for a model", ("task", "model")),
    ):
        example = {
            "activate": "vitrine models activate mnist-cnn 3f2a9c0d11e2",
            "rollback": "vitrine models rollback mnist-cnn",
            "unload": "vitrine models unload mnist-cnn",
            "point": "vitrine models point digits mnist-mlp256x2",
        }[name]
        verb = verbs.add_parser(name, help=help_, description=help_, epilog=f"example: {example}")
        for argument in names:
            verb.add_argument(argument)
        verb.set_defaults(run=_change, verb=name)

    doctor = command("doctor", "look at the machine, the settings and the models", "vitrine doctor")
    doctor.set_defaults(run=_doctor)

    feedback = commands.add_parser("feedback", help="get at the labels that were sent as feedback")
    ledgers = feedback.add_subparsers(required=True, metavar="VERB")
    exporting = ledgers.add_parser(
        "export",
        help="write every label as a table",
        description="Write every label as CSV or Parquet, and the images captured for them.",
        epilog="example: vitrine feedback export --out labels.csv --images relearn/",
    )
    exporting.add_argument("--out", type=Path, required=True, help="a .csv or .parquet file")
    exporting.add_argument("--model", help="labels of this model alone")
    exporting.add_argument(
        "--source", choices=("user", "audit"), help="labels of this source alone"
    )
    exporting.add_argument(
        "--images",
        type=Path,
        help="copy the captured images into this folder, by class (VITRINE_CAPTURE keeps a share)",
    )
    exporting.add_argument("--state", type=Path, help="the state folder (VITRINE_STATE)")
    exporting.set_defaults(run=_export)

    score = commands.add_parser(
        "score",
        help="classify every image of a folder into a file",
        description="Classify every image of a folder into a file; interrupted, the same command "
        "goes on where it stopped. Exit status: 0 all have an answer, 1 some have none, 2 misuse.",
        epilog=scoring.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scoring.add_arguments(score)
    score.set_defaults(run=scoring.main)
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port, expected 1 to 65535")
    return port


def _serve(arguments: argparse.Namespace, settings: Settings) -> int:
    """Hand over to `bentoml serve`, which stays in this process's place."""
    environ = dict(os.environ)
    for name in ("workers", "execution_provider", "state"):
        given = getattr(arguments, name)
        if given is not None:
            environ[f"VITRINE_{name.upper()}"] = given
    settings = Settings.from_env(environ)
    if settings.execution_provider == "cuda":
        # Said here, once and clearly, and not by every worker. Heavy, so only when asked for.
        from artifacts.model import NoProvider, providers_for

        try:
            providers_for("cuda")
        except NoProvider as error:
            print(f"vitrine: {error}", file=sys.stderr)
            return 1
    home = environ.setdefault("BENTOML_HOME", str(_bentoml_home(settings, arguments.port)))
    if _temporary_folder() is None:
        environ["TMPDIR"] = home
    environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
    program = Path(sys.executable).with_name("bentoml")
    if not program.exists():
        program = Path(shutil.which("bentoml") or program)
    command = [
        *(str(program), "serve", "service.app:Vitrine"),
        *("--host", arguments.host, "--port", str(arguments.port)),
        # A client that never finishes its body must not hold up the end for ever.
        *("--timeout-graceful-shutdown", str(int(settings.deadline_s + settings.body_timeout_s))),
    ]
    sys.stdout.flush()
    os.execve(command[0], command, environ)  # noqa: S606  # our own program, no shell


def _bentoml_home(settings: Settings, port: int) -> Path:
    """A folder of its own for each server: BentoML empties its metrics folder at start."""
    if settings.state is not None:
        home = settings.state / f"bentoml-{port}"
        try:
            home.mkdir(parents=True, exist_ok=True)
            if os.access(home, os.W_OK):
                return home.resolve()
        except OSError:
            pass  # the service says so itself, and goes on without
    # A container whose root is read-only may have no /tmp; /dev/shm is memory, and is always there.
    memory = Path("/dev/shm")  # noqa: S108
    place = _temporary_folder() or (memory if os.access(memory, os.W_OK) else None)
    if place is None:
        raise ReadOnly("no folder can be written; mount one at /state, or a tmpfs at /tmp")
    return Path(tempfile.mkdtemp(prefix=f"vitrine-bentoml-{port}-", dir=place))


def _temporary_folder() -> Path | None:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return None


def _list_models(arguments: argparse.Namespace, settings: Settings) -> int:
    store = Store(settings.state)
    catalog = store.catalog()
    for model in store.models():
        tasks = ", ".join(sorted(t for t, m in catalog.tasks.items() if m == model))
        print(f"{model}{f'  (task {tasks})' if tasks else ''}")
        entry = catalog.live.get(model)
        for version in store.versions(model):
            state = "live" if entry and entry.version == version else ""
            state = "previous" if entry and entry.previous == version else state
            print(f"  {version}  {state:<8}  {_facts(store, model, version)}")
    return 0


def _facts(store: Store, model: str, version: str) -> str:
    from artifacts.manifest import read

    try:
        manifest = read(store.folder(model, version))
    except BadArtifact as error:
        return f"damaged: {error}"
    accuracy = manifest.test.get("accuracy")
    shown = "" if accuracy is None else f"{accuracy:.2%}  "
    return f"{shown}{manifest.parameters:,} parameters  {manifest.created}"


def _change(arguments: argparse.Namespace, settings: Settings) -> int:
    store = Store(settings.state)
    if arguments.verb == "point":
        store.point(arguments.task, arguments.model)
        print(f"task {arguments.task} is done by {arguments.model}")
        return 0
    if arguments.verb == "activate":
        live = store.activate(arguments.model, arguments.version)
    elif arguments.verb == "rollback":
        live = store.rollback(arguments.model)
    else:
        live = store.deactivate(arguments.model)
    print(f"{arguments.model}: live {live.version or 'none'}, before {live.previous or 'none'}")
    return 0


def _export(arguments: argparse.Namespace, settings: Settings) -> int:
    from service.export import command

    return command(arguments, settings)


def _doctor(arguments: argparse.Namespace, settings: Settings) -> int:
    from service.doctor import examine

    return examine(settings)


if __name__ == "__main__":
    raise SystemExit(main())
