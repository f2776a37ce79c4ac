"""Commands for specs and trainings: validate, schema, train, evaluate, verify, protocols."""

import os
import signal
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from aezoo.cli.application import Json, Plugins, Variant, app, as_load_argument, load_plugin_files, number
from aezoo.errors import AezooError, DataError
from aezoo.terminal import print_error, print_json, print_line, print_table

TERMINATED = 143


@contextmanager
def _noted_other_data() -> Generator[list[object]]:
    """Context manager that shows warnings at its end, and yields a list of those that data are others."""
    other: list[object] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "other-data")
        yield other
    for warning in caught:
        warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
    other += [w.message for w in caught if getattr(w.message, "code", None) == "other-data"]


@contextmanager
def _interrupted_by_sigterm() -> Generator[None]:
    """Context manager in which SIGTERM, which schedulers send, saves the weights so far as Ctrl-C does."""
    received: list[int] = []

    def interrupt(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if not received:
            raise
        print_error("terminated")
        raise SystemExit(TERMINATED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Specs to check.")],
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Check specs without training; list every mistake with line and path."""
    load_plugin_files(plugin)
    from aezoo.errors import SpecError
    from aezoo.training.checks import read_and_check
    from aezoo.training.diagnostics import lint_spec

    results: list[dict[str, Any]] = []
    for file in files:
        try:
            spec, ae = read_and_check(file)
        except SpecError as error:
            problems = [{"path": p.path, "line": p.line, "message": p.message} for p in error.problems]
            results.append({"file": str(file), "valid": False, "problems": problems})
            if not as_json:
                print_error(error)
        else:
            given = lint_spec(spec, ae.shapes)
            for piece in given:
                piece.warn()
            results.append(
                {"file": str(file), "valid": True, "problems": [], "advice": list(map(asdict, given))}
            )
            if not as_json:
                print_line(f"{file}: valid; {ae.num_latents:,} latents, {ae.num_parameters:,} parameters")
    if as_json:
        print_json(results)
    if not all(result["valid"] for result in results):
        raise typer.Exit(1)


@app.command()
def schema(plugin: Plugins = None) -> None:
    """Print the JSON Schema of spec.yaml, for editors."""
    load_plugin_files(plugin)
    from aezoo.plugins.isolation import stdout_to_stderr
    from aezoo.specs.schema import json_schema

    # The classes of a plugin may print when they are asked for their schema.
    with stdout_to_stderr():
        found = json_schema()
    print_json(found)


@app.command()
def train(
    spec: Annotated[str, typer.Argument(help="A spec.yaml, or the name of a variant to retrain.")],
    to: Annotated[
        Path | None, typer.Option("--out", help="Folder to write. [default: the spec's own, else ./NAME]")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the spec.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, or auto.")] = "auto",
    overwrite: Annotated[bool, typer.Option(help="Replace a folder that holds weights.")] = False,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted training of this folder.")] = False,
    write_anywhere: Annotated[
        bool,
        typer.Option("--write-anywhere", help="Let the recipe's callbacks write outside of this folder."),
    ] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Train a spec, measure it once on the test split, and write its folder."""
    load_plugin_files(plugin)
    from aezoo.specs.yaml import read_spec
    from aezoo.training.checks import read_and_check
    from aezoo.training.distributed import env_rank
    from aezoo.training.train import train_to_folder
    from aezoo.zoo.load import get_spec

    file = _spec_file(spec)
    if file is not None and not changes:
        variant = read_and_check(file)[0]
    else:
        # The file alone need not be trainable.
        variant = get_spec(spec) if file is None else read_spec(file)
    if changes:
        variant = variant.replace(dict(_parse_override(text) for text in changes))
    target = to or _own_folder(file, variant.name) or Path(variant.name)
    with _interrupted_by_sigterm():
        ae = train_to_folder(
            variant, target, device=device, overwrite=overwrite, resume=resume, write_anywhere=write_anywhere
        )
    if env_rank() > 0:
        return
    if as_json:
        print_json({"folder": str(target), "metrics": ae.metrics})
        return
    print_table(
        ("metric", "value", "split", "samples"),
        (
            (metric, number(entry["value"]), entry["split"], number(entry["n"]))
            for metric, entry in ae.metrics.items()
        ),
        drop=("samples", "split"),
    )
    print_line(f"folder: {target}; load it with aezoo.load({as_load_argument(target)!r})")


@app.command()
def evaluate(
    name: Variant,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test. [default: test]", show_default=False)
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Run a protocol, such as few-label, instead; `aezoo protocols` lists them."),
    ] = None,
    record: Annotated[bool, typer.Option(help="Write the results to the folder's metrics.json.")] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Recompute a variant's metrics from weights and data, next to the published ones.

    The exit code is 1 if the data are not those of the training, or a value is not the published one.
    """
    load_plugin_files(plugin)
    from aezoo.evaluation.evaluate import changed_values, evaluate_variant
    from aezoo.evaluation.protocols import run_protocol
    from aezoo.zoo.load import is_folder, load
    from aezoo.zoo.model_card import write_card
    from aezoo.zoo.save import record_metrics
    from aezoo.zoo.schema import CARD

    if protocol is not None and split is not None:
        raise typer.BadParameter("a protocol chooses its own splits; omit --split")
    if record and not is_folder(name):
        raise typer.BadParameter(f"--record needs a folder, such as ./{name}")
    if record and split not in (None, "test"):
        raise typer.BadParameter("--record is for the test split; omit --split")
    split = split or "test"
    ae = load(name)
    with _noted_other_data() as other_data:
        found = run_protocol(protocol, ae) if protocol else evaluate_variant(ae, split)
    if record and other_data:
        raise DataError("nothing was recorded: these numbers are not those of the variant's own data")
    changed = [] if record else changed_values(ae, found)
    if record:
        folder = Path(name).expanduser()
        record_metrics(folder, found)
        if (folder / CARD).is_file():
            write_card(folder)
    for line in changed:
        print_error(line)
    failed = typer.Exit(1 if other_data or changed else 0)
    if as_json:
        print_json(found)
        raise failed
    rows: list[tuple[str, ...]] = []
    for metric, entry in found.items():
        published = ae.metrics.get(metric, {})
        same_split = published.get("split") == entry["split"]
        then = number(published.get("value"), digits=8) if same_split else "-"
        rows.append((metric, number(entry["value"], digits=8), then, number(entry["n"])))
    print_table(("metric", "computed now", "published", "samples"), rows, drop=("samples",))
    raise failed


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="A variant's name, or a folder such as ./mine.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Verify every variant that is listed.")] = False,
    protocols: Annotated[
        bool, typer.Option("--protocols/--no-protocols", help="Recompute the numbers of protocols, too.")
    ] = True,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Run the recipe again, too, and compare the weights.")
    ] = False,
    seeds: Annotated[
        int, typer.Option(min=2, help="Trainings of --retrain where the bits depend on the machine.")
    ] = 3,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Recompute every published number of a variant that follows from its weights and data.

    The exit code is 1 if a number differs, cannot be measured, or the data are not those of the training.
    Relative differences up to 1e-5 are none; in protocols more is allowed, which docs/metrics.md states.
    With --retrain, the weights must have the published bits on a machine of the same kind; elsewhere, the
    numbers must agree with those of trainings with several seeds.
    """
    load_plugin_files(plugin)
    from aezoo.evaluation.verification import verify as verify_
    from aezoo.training.retraining import verify_training
    from aezoo.zoo.index import list_variants
    from aezoo.zoo.load import load

    if (name is None) != all_:
        raise typer.BadParameter("name one variant or folder, or give --all")
    results: dict[str, Any] = {}
    failed = False
    for one in list_variants() if name is None else [name]:
        try:
            ae = load(one)
            with _noted_other_data() as other_data:
                verdicts = verify_(ae, protocols=protocols)
            training = verify_training(ae, seeds=seeds, progress=not as_json) if retrain else None
        except AezooError as error:
            if name is not None:
                raise
            print_error(f"{one}: {error}")
            failed = True
            continue
        numbers = list(map(asdict, verdicts))
        results[one] = numbers if training is None else {"numbers": numbers, "training": asdict(training)}
        bad = [verdict for verdict in verdicts if verdict.verdict != "same"]
        failed = failed or bool(bad) or bool(other_data)
        failed = failed or (training is not None and training.verdict == "differs")
        if as_json:
            continue
        if name is None:
            same = f"{len(verdicts) - len(bad)} of {len(verdicts)} numbers are the same"
            print_line(f"{one}: {same}")
        shown = verdicts if name is not None else bad
        if shown:
            print_table(
                ("metric", "published", "computed now", "difference", "verdict"),
                (
                    (
                        v.metric,
                        number(v.published, digits=8),
                        number(v.computed, digits=8),
                        "-" if v.difference is None else f"{v.difference:.1e}",
                        v.verdict if v.reason is None else f"{v.verdict}: {v.reason}",
                    )
                    for v in shown
                ),
                drop=("difference",),
            )
        if training is not None:
            _print_training(one, training)
    if as_json:
        print_json(results)
    raise typer.Exit(1 if failed else 0)


@app.command("protocols")
def protocols_(as_json: Json = False) -> None:
    """List the protocols: measurements that take more than one pass over the data."""
    from aezoo.evaluation.protocols import PROTOCOLS

    if as_json:
        print_json({name: protocol.summary for name, protocol in PROTOCOLS.items()})
        return
    print_table(
        ("protocol", "what is measured"), ((name, protocol.summary) for name, protocol in PROTOCOLS.items())
    )


def _print_training(name: str, training: Any) -> None:
    reason = f": {training.reason}" if training.reason else ", bit for bit"
    runs = f"seed {training.seeds[0]}" if len(training.seeds) == 1 else f"{len(training.seeds)} seeds"
    print_line(f"{name}: trained again ({runs}), {training.verdict}{reason}")
    if training.metrics:
        print_table(
            ("metric", "published", "mean", "sd", "limit", "verdict"),
            (
                (
                    row.metric, number(row.published, digits=6), number(row.mean, digits=6),
                    number(row.sd, digits=2), number(row.limit, digits=2), row.verdict,
                )
                for row in training.metrics
            ),
            drop=("limit",),
        )  # fmt: skip


def _spec_file(text: str) -> Path | None:
    """Returns the file an argument names; None if it is a variant's name."""
    path = Path(text)
    return path if path.suffix in (".yaml", ".yml") or os.path.isfile(path) else None  # noqa: PTH113, as above


def _own_folder(file: Path | None, name: str) -> Path | None:
    if file is None or file.name != "spec.yaml" or file.absolute().parent.name != name:
        return None
    return file.parent


def _parse_override(text: str) -> tuple[str, object]:
    from aezoo.specs.yaml import Document

    path, sign, value = text.partition("=")
    if not sign or not path:
        raise typer.BadParameter(f"{text!r}: write PATH=VALUE, such as recipe.batch_size=256")
    return path, Document(value, "--set").data
