"""The command line. Each command calls one public function and prints its result.

Exit codes: 0 done, 1 refused with one clear line, 2 wrong usage.
"""

import os
import signal
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from aezoo.errors import AezooError, DataError, DiagnosticWarning, HubError
from aezoo.terminal import print_error, print_json, print_line, print_lines, print_table, safe_streams
from aezoo.text import printable

app = typer.Typer(
    name="aezoo",
    help="A model zoo of autoencoders: declarative specs, trained weights, numbers you can recompute.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Variant = Annotated[str, typer.Argument(help="A variant's name, or a folder such as ./mine.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Run a Python file that registers kinds."),
]
INTERRUPTED = 130
TERMINATED = 143
PLACEHOLDER_USER = "you"
HEADLINE = {"mse": "mse", "fvu": "fvu", "l0": "l0", "dead_latents": "dead latents"}
"""Metrics that `list` and `demo` show -> heading of their column."""


def main() -> None:
    """Runs the command line. An `AezooError` is printed as one line, with exit code 1."""
    with safe_streams(), warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            app(prog_name="aezoo")
        except AezooError as error:
            print_error(error)
            raise SystemExit(1) from None
        except SystemExit as done:
            # Typer prints nothing on Ctrl-C.
            if done.code == INTERRUPTED:
                print_error("interrupted")
            raise


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    word = "warning" if issubclass(category, UserWarning) else category.__name__
    word = "advice" if issubclass(category, DiagnosticWarning) else word
    print_error(f"{word}: {printable(message)}")


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


def _version(wanted: bool | None) -> None:
    if wanted:
        from importlib.metadata import version

        print_line(version("aezoo"))
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool | None,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = None,
    no_plugins: Annotated[
        bool,
        typer.Option(
            "--no-plugins", help="Ignore installed plugins, to find out whether one causes a problem."
        ),
    ] = False,
) -> None:
    """A model zoo of autoencoders: declarative specs, trained weights, numbers you can recompute."""
    if no_plugins:
        os.environ["AEZOO_PLUGINS"] = ""


@app.command("list")
def list_(
    pattern: Annotated[
        str, typer.Argument(help="Names to show, such as 'sparse-*', or a folder such as ./mine.")
    ] = "*",
    as_json: Json = False,
) -> None:
    """List the variants with their size and their error on the test set."""
    from aezoo.zoo.entries import find_entries

    entries = find_entries(pattern)
    if as_json:
        print_json(entries)
        return
    if not entries:
        hint = f"; write ./{pattern} for the folder" if os.path.isdir(pattern) else ""  # noqa: PTH112, Path.is_dir raises for long names
        print_line(f"no variant matches {pattern!r}{hint}")
        return
    print_table(
        ("variant", "input", "latents", "parameters", *HEADLINE.values(), "summary"),
        (
            (
                name,
                _shape(entry["input"]),
                _shape(entry["latents"]),
                f"{entry['parameters']:,}",
                *(_number(entry["metrics"].get(metric)) for metric in HEADLINE),
                entry["summary"],
            )
            for name, entry in entries.items()
        ),
        drop=("summary", "input", "dead latents", "l0", "fvu", "parameters", "latents"),
    )


@app.command()
def show(name: Variant, as_json: Json = False) -> None:
    """Show a variant: layers, metrics, and files with their hashes."""
    from aezoo.zoo.entries import find_entry

    entry = find_entry(name)
    if as_json:
        print_json(entry)
        return
    print_line(f"{name}  {entry['summary']}")
    sizes = f"{_shape(entry['input'])} -> {_shape(entry['latents'])} latents"
    data = entry["dataset"] or "data without a name"
    print_line(f"{sizes}, {entry['parameters']:,} parameters, trained on {data}")
    if entry["references"]:
        print_line(", ".join(entry["references"]))
    print_line(f"hub:{entry['repository']}@{entry['commit']}" if entry["commit"] else "not on the Hub yet")
    print_line("")
    print_table(
        ("layer", "kind", "output", "parameters"),
        (
            (layer["path"], layer["kind"], _shape(layer["output"]), f"{layer['parameters']:,}")
            for layer in entry["layers"]
        ),
        drop=("parameters", "output"),
    )
    print_line("")
    print_table(("metric", "value"), ((metric, _number(value)) for metric, value in entry["metrics"].items()))
    print_line("")
    print_table(
        ("file", "bytes", "sha256"),
        ((file, f"{record['bytes']:,}", record["sha256"]) for file, record in entry["files"].items()),
    )


@app.command()
def demo(
    name: Annotated[str, typer.Argument(help="A variant for handwritten digits.")] = "sparse-topk16",
    picture: Annotated[Path, typer.Option("--out", help="Where to write the picture.")] = Path(
        "aezoo-demo.png"
    ),
    as_json: Json = False,
) -> None:
    """Reconstruct 300 digits that ship with aezoo, and draw some. Works offline and needs no dataset."""
    from aezoo.zoo.demo import demo as demo_
    from aezoo.zoo.demo import sample_digits

    found = demo_(name, picture)
    n = len(sample_digits())
    if as_json:
        print_json({
            "name": name, "digits": n, "metrics": found.metrics, "picture": str(found.picture),
            "load_seconds": found.load_seconds, "run_seconds": found.run_seconds,
        })  # fmt: skip
        return
    print_line(f"{name}, weights sha256 {str(found.ae.source.sha256)[:12]}... verified")
    print_line(f"measured on {n} test digits")
    headings = HEADLINE | {"mse": "MSE per pixel", "fvu": "FVU", "l0": "L0"}
    values = {heading: _number(found.metrics[metric]["value"]) for metric, heading in headings.items()}
    values["load"] = f"{1000 * found.load_seconds:.0f} ms"
    values["encode + decode"] = f"{1000 * found.run_seconds:.1f} ms"
    print_table(("measured", "value"), values.items())
    print_line(f"picture: {found.picture}")


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Specs to check.")],
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Check specs without training; list every mistake with line and path."""
    _load_plugin_files(plugin)
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
    _load_plugin_files(plugin)
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
    _load_plugin_files(plugin)
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
            (metric, _number(entry["value"]), entry["split"], _number(entry["n"]))
            for metric, entry in ae.metrics.items()
        ),
        drop=("samples", "split"),
    )
    print_line(f"folder: {target}; load it with aezoo.load({_as_load_argument(target)!r})")


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
    _load_plugin_files(plugin)
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
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "other-data")
        found = run_protocol(protocol, ae) if protocol else evaluate_variant(ae, split)
    for warning in caught:
        warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)
    other_data = any(getattr(warning.message, "code", None) == "other-data" for warning in caught)
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
        then = _number(published.get("value"), digits=8) if same_split else "-"
        rows.append((metric, _number(entry["value"], digits=8), then, _number(entry["n"])))
    print_table(("metric", "computed now", "published", "samples"), rows, drop=("samples",))
    raise failed


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


@app.command()
def plugins(plugin: Plugins = None, as_json: Json = False) -> None:
    """List plugins with distribution, version, contract and registered kinds."""
    _load_plugin_files(plugin)
    from aezoo.plugins.registry import list_plugins

    found = list_plugins()
    if as_json:
        print_json([
            {"name": c.name, "distribution": c.distribution, "version": c.version, "api": c.api,
             "kinds": [{"family": f, "kind": k} for f, k in c.kinds], "error": c.error}
            for c in found
        ])  # fmt: skip
        return
    rows: list[tuple[str, ...]] = []
    for c in found:
        kinds: dict[str, list[str]] = {}
        for family, kind in c.kinds:
            kinds.setdefault(family, []).append(kind)
        text = "; ".join(f"{family}: {', '.join(names)}" for family, names in kinds.items())
        shown = f"left out: {c.error}" if c.error else text
        rows.append((c.name, c.distribution or "-", c.version or "-", str(c.api or "-"), shown))
    print_table(
        ("plugin", "distribution", "version", "contract", "kinds"),
        rows,
        drop=("contract", "distribution", "version"),
    )


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="Prefix of the plugin's kinds: letters, digits, underscores.")],
    parent: Annotated[Path, typer.Option("--in", help="Folder to write the package into.")] = Path(),
) -> None:
    """Create a plugin package with one layer and tests that pass."""
    from aezoo.plugins.scaffold import new_plugin

    folder = new_plugin(name, parent)
    print_line(f"{folder}: now `pip install -e {folder}`, `aezoo plugins`, and `pytest {folder}`")


@app.command("check-plugin")
def check_plugin(
    name: Annotated[str, typer.Argument(help="An installed plugin's distribution, such as aezoo-sae.")],
    as_json: Json = False,
) -> None:
    """Check every kind and variant of an installed plugin against the contract."""
    from aezoo.testing import reports_of

    reports = reports_of(name)
    if as_json:
        print_json([asdict(report) for report in reports])
    else:
        for report in reports:
            print_lines(str(report))
    if not all(report.passed for report in reports):
        raise typer.Exit(1)


@app.command("index", hidden=True)
def index(
    root_: Annotated[Path, typer.Argument(help="A folder of variants.")] = Path("zoo"),
    license_: Annotated[
        str | None,
        typer.Option("--license", help="License of the weights, such as mit; stored in the index."),
    ] = None,
) -> None:
    """Rewrite the model cards and the index of a folder of variants."""
    from aezoo.zoo.write_index import write_index

    print_line(write_index(root_, license=license_))


@app.command()
def card(name: Variant) -> None:
    """Print the model card of a variant."""
    from aezoo.zoo.load import download_all
    from aezoo.zoo.model_card import card

    print_lines(card(download_all(name), address=name))


@app.command()
def push(
    name: Annotated[str | None, typer.Argument(help="A variant's name, or a folder such as ./mine.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Push every variant of the zoo.")] = False,
    org: Annotated[
        str | None,
        typer.Option(help="User or organisation. [default: that of the index, else you]", show_default=False),
    ] = None,
    private: Annotated[bool, typer.Option(help="Create the repository as private.")] = False,
    tag: Annotated[str | None, typer.Option(help="Tag the commit, such as v1.0; a tag never moves.")] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="License of the weights for the card, such as mit.")
    ] = None,
    allow_modified: Annotated[
        bool, typer.Option("--allow-modified", help="Push weights that were changed after their training.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Show the files, their sizes and the card; upload nothing.")
    ] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Publish a variant on the Hugging Face Hub, then download and compare every file."""
    _load_plugin_files(plugin)
    from aezoo.zoo.index import core_variants
    from aezoo.zoo.push import plan_push
    from aezoo.zoo.push import push as push_

    if (name is None) != all_:
        raise typer.BadParameter("name one variant or folder, or give --all")
    # --all means aezoo's own variants; those of a plugin are pushed by its author.
    names = core_variants() if name is None else [name]
    done: list[dict[str, Any]] = []
    if dry_run:
        for one in names:
            try:
                plan = plan_push(one, org=org, license=license_, allow_modified=allow_modified)
            except HubError as error:
                # A dry run works without login and offline.
                print_error(f"{error}; shown as it would be for a user called {PLACEHOLDER_USER!r}")
                org = PLACEHOLDER_USER
                plan = plan_push(one, org=org, license=license_, allow_modified=allow_modified)
            if as_json:
                sizes = {file: len(raw) for file, raw in plan.contents.items()}
                done.append({"repository": plan.repository, "files": sizes})
                continue
            print_line(f"{plan.repository} would hold")
            print_table(("file", "bytes"), ((file, f"{len(raw):,}") for file, raw in plan.contents.items()))
            if name is not None:
                print_lines(plan.contents["README.md"].decode())
        if as_json:
            print_json(done)
        return
    for one in names:
        published = push_(
            one, org=org, private=private, tag=tag, license=license_, allow_modified=allow_modified
        )
        done.append(asdict(published))
        if not as_json:
            what = f"{len(published.changed)} files changed" if published.changed else "nothing changed"
            print_line(
                f"{published.url} at {published.commit}: {what}; every file was downloaded and compared"
            )
    if as_json:
        print_json(done)


@app.command()
def pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="Variants by name or pattern, or hub:OWNER/NAME@REVISION.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder to put them into. [default: AEZOO_ZOO]", show_default=False)
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Download a dataset instead, such as mnist.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Download variants, verified, or datasets for use without a network."""
    from aezoo.errors import UnknownVariantError
    from aezoo.zoo.index import list_variants
    from aezoo.zoo.load import HUB
    from aezoo.zoo.pull import pull as pull_
    from aezoo.zoo.pull import pull_dataset

    if not names and not dataset:
        raise typer.BadParameter("name a variant, or a dataset with --dataset")
    if names and dataset:
        raise typer.BadParameter("pull variants and datasets separately: they go into different folders")
    done: list[str] = []
    for kind in dataset or []:
        root_ = pull_dataset(kind, to)
        done.append(str(root_))
        if not as_json:
            print_line(f"{kind} is under {root_}; set AEZOO_DATA={root_} to use it")
    for pattern in names or []:
        by_name = not pattern.startswith(HUB) and any(sign in pattern for sign in "*?[")
        found = list_variants(pattern) if by_name else [pattern]
        if not found:
            raise UnknownVariantError(f"no variant matches {pattern!r}")
        for one in found:
            folder = pull_(one, to)
            done.append(str(folder))
            if not as_json:
                how = f"load it with aezoo.load({_as_load_argument(folder)!r})"
                how = how if one.startswith(HUB) else f"set AEZOO_ZOO={folder.parent} to load it by name"
                print_line(f"{folder}: verified; {how}")
    if as_json:
        print_json(done)


def _load_plugin_files(files: list[Path] | None) -> None:
    from aezoo.plugins.registry import load_plugin_file

    for file in files or []:
        load_plugin_file(file)


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


def _as_load_argument(folder: Path) -> str:
    text = str(folder)
    return text if folder.is_absolute() or text.startswith(".") else f"./{text}"


def _shape(sizes: list[int]) -> str:
    return "x".join(map(str, sizes))


def _number(value: object, digits: int = 4) -> str:
    """A number of a file as text; anything else, which the file may hold as well, as it is."""
    if not isinstance(value, int | float):
        return "null" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1 else f"{value:.{digits}g}"
