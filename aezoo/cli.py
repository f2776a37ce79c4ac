"""The command line. Each command calls one public function and prints its result.

Exit codes: 0 done, 1 refused with one clear line, 2 wrong usage.
"""

import json
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aezoo.errors import AezooError, DiagnosticWarning, HubError

app = typer.Typer(
    name="aezoo",
    help="A model zoo of autoencoders: declarative specs, trained weights, numbers you can recompute.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out = Console(highlight=False, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="Run a Python file that registers kinds."),
]
INTERRUPTED = 130
PLACEHOLDER_USER = "you"
Headline = ("mse", "fvu", "l0", "dead_latents")


def main() -> None:
    """Runs the command line. An `AezooError` is printed as one line, with exit code 1."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            app(prog_name="aezoo")
    except AezooError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    except SystemExit as done:
        # Typer prints nothing on Ctrl-C.
        if done.code == INTERRUPTED:
            print("interrupted", file=sys.stderr)
        raise


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    word = "warning" if issubclass(category, UserWarning) else category.__name__
    word = "advice" if issubclass(category, DiagnosticWarning) else word
    print(f"{word}: {message}", file=sys.stderr)


def _version(wanted: bool | None) -> None:
    if wanted:
        from importlib.metadata import version

        out.print(version("aezoo"))
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
    pattern: Annotated[str, typer.Argument(help="Names to show, such as 'sparse-*'.")] = "*",
    as_json: Json = False,
) -> None:
    """List the variants with their size and their error on the test set."""
    from aezoo.zoo.index import get_entry, list_variants

    names = list_variants(pattern)
    entries = {name: get_entry(name) for name in names}
    if as_json:
        _print_json(entries)
        return
    if not names:
        out.print(f"no variant matches {escape(repr(pattern))}")
        return
    # On a narrow terminal the summary is left to `aezoo show NAME`.
    wide = out.width >= 120
    table = _table("variant", "input", "latents", "parameters", *Headline, *(["summary"] if wide else []))
    for name, entry in entries.items():
        table.add_row(
            name,
            _shape(entry["input"]),
            _shape(entry["latents"]),
            f"{entry['parameters']:,}",
            *(_number(entry["metrics"].get(metric)) for metric in Headline),
            *([escape(entry["summary"])] if wide else []),
        )
    out.print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A variant's name.")], as_json: Json = False) -> None:
    """Show a variant: layers, metrics, and files with their hashes."""
    from aezoo.zoo.index import get_entry

    entry = get_entry(name)
    if as_json:
        _print_json(entry)
        return
    out.print(f"[bold]{name}[/bold]  {escape(entry['summary'])}")
    sizes = f"{_shape(entry['input'])} -> {_shape(entry['latents'])} latents"
    data = escape(entry["dataset"] or "data without a name")
    out.print(f"{sizes}, {entry['parameters']:,} parameters, trained on {data}")
    if entry["references"]:
        out.print(", ".join(map(escape, entry["references"])))
    where = f"hub:{entry['repository']}@{entry['commit']}" if entry["commit"] else "not on the Hub yet"
    out.print(escape(where))
    layers = _table("layer", "kind", "output", "parameters")
    for layer in entry["layers"]:
        layers.add_row(
            escape(layer["path"]), escape(layer["kind"]), _shape(layer["output"]), f"{layer['parameters']:,}"
        )
    out.print(layers)
    metrics = _table("metric", "value")
    for metric, value in entry["metrics"].items():
        metrics.add_row(escape(metric), _number(value))
    out.print(metrics)
    files = _table("file", "bytes", "sha256")
    for file, record in entry["files"].items():
        files.add_row(escape(file), f"{record['bytes']:,}", escape(record["sha256"]))
    out.print(files)


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
        _print_json({
            "name": name, "digits": n, "metrics": found.metrics, "picture": str(found.picture),
            "load_seconds": found.load_seconds, "run_seconds": found.run_seconds,
        })  # fmt: skip
        return
    table = _table("measured on", "MSE per pixel", "FVU", "L0", "dead latents", "load", "encode + decode")
    table.add_row(
        f"{n} test digits",
        *(_number(found.metrics[metric]["value"]) for metric in Headline),
        f"{1000 * found.load_seconds:.0f} ms",
        f"{1000 * found.run_seconds:.1f} ms",
    )
    out.print(f"[bold]{name}[/bold], weights sha256 {str(found.ae.source.sha256)[:12]}… verified")
    out.print(table)
    out.print(f"picture: {escape(str(found.picture))}")


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="Specs to check.")],
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Check specs without training; list every mistake with line and path."""
    _load_plugin_files(plugin)
    from aezoo.errors import SpecError
    from aezoo.model.build import build_on_meta
    from aezoo.training.checks import validate as validate_
    from aezoo.training.diagnostics import lint_spec

    results: list[dict[str, Any]] = []
    for file in files:
        try:
            ae = build_on_meta(validate_(file))
        except SpecError as error:
            problems = [{"path": p.path, "line": p.line, "message": p.message} for p in error.problems]
            results.append({"file": str(file), "valid": False, "problems": problems})
            if not as_json:
                print(error, file=sys.stderr)
        else:
            given = [asdict(piece) for piece in lint_spec(ae.spec, ae.shapes)]
            results.append({"file": str(file), "valid": True, "problems": [], "advice": given})
            if not as_json:
                out.print(
                    escape(f"{file}: valid; {ae.num_latents:,} latents, {ae.num_parameters:,} parameters")
                )
    if as_json:
        _print_json(results)
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
    _print_json(found)


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
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Train a spec, measure it once on the test split, and write its folder."""
    _load_plugin_files(plugin)
    from aezoo.specs.yaml import read_spec
    from aezoo.training.distributed import env_rank
    from aezoo.training.train import train_to_folder
    from aezoo.zoo.load import get_spec

    file = _spec_file(spec)
    variant = get_spec(spec) if file is None else read_spec(file)
    if changes:
        variant = variant.replace(dict(_parse_override(text) for text in changes))
    target = to or _own_folder(file, variant.name) or Path(variant.name)
    ae = train_to_folder(variant, target, device=device, overwrite=overwrite, resume=resume)
    if env_rank() > 0:
        return
    if as_json:
        _print_json({"folder": str(target), "metrics": ae.metrics})
        return
    table = _table("metric", "value", "split", "samples")
    for metric, entry in ae.metrics.items():
        table.add_row(metric, _number(entry["value"]), str(entry["split"]), f"{entry['n']:,}")
    out.print(table)
    out.print(escape(f"folder: {target}; load it with aezoo.load({_as_load_argument(target)!r})"))


@app.command()
def evaluate(
    name: Annotated[str, typer.Argument(help="A variant's name, or a folder such as ./mine.")],
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
    """Recompute a variant's metrics from weights and data, next to the published ones."""
    _load_plugin_files(plugin)
    from aezoo.evaluation.evaluate import evaluate_variant
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
    found = run_protocol(protocol, ae) if protocol else evaluate_variant(ae, split)
    if record:
        folder = Path(name).expanduser()
        record_metrics(folder, found)
        if (folder / CARD).is_file():
            write_card(folder)
    if as_json:
        _print_json(found)
        return
    table = _table("metric", "computed now", "published", "samples")
    for metric, entry in found.items():
        published = ae.metrics.get(metric, {})
        same_split = published.get("split") == entry["split"]
        table.add_row(
            metric,
            _number(entry["value"], digits=8),
            _number(published.get("value"), digits=8) if same_split else "-",
            f"{entry['n']:,}",
        )
    out.print(table)


@app.command("protocols")
def protocols_(as_json: Json = False) -> None:
    """List the protocols: measurements that take more than one pass over the data."""
    from aezoo.evaluation.protocols import PROTOCOLS

    if as_json:
        _print_json({name: protocol.summary for name, protocol in PROTOCOLS.items()})
        return
    table = _table("protocol", "what is measured")
    for name, protocol in PROTOCOLS.items():
        table.add_row(name, protocol.summary)
    out.print(table)


@app.command()
def plugins(plugin: Plugins = None, as_json: Json = False) -> None:
    """List plugins with distribution, version, contract and registered kinds."""
    _load_plugin_files(plugin)
    from aezoo.plugins.registry import list_plugins

    found = list_plugins()
    if as_json:
        _print_json([
            {"name": c.name, "distribution": c.distribution, "version": c.version, "api": c.api,
             "kinds": [{"family": f, "kind": k} for f, k in c.kinds], "error": c.error}
            for c in found
        ])  # fmt: skip
        return
    table = _table("plugin", "distribution", "version", "contract", "kinds")
    for c in found:
        kinds: dict[str, list[str]] = {}
        for family, kind in c.kinds:
            kinds.setdefault(family, []).append(kind)
        text = "\n".join(f"{family}: {', '.join(names)}" for family, names in kinds.items())
        shown = f"[red]left out: {escape(c.error)}[/red]" if c.error else escape(text)
        source = (c.name, c.distribution or "-", c.version or "-")
        table.add_row(*map(escape, source), str(c.api or "-"), shown)
    out.print(table)


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(help="Prefix of the plugin's kinds: letters, digits, underscores.")],
    parent: Annotated[Path, typer.Option("--in", help="Folder to write the package into.")] = Path(),
) -> None:
    """Create a plugin package with one layer and tests that pass."""
    from aezoo.plugins.scaffold import new_plugin

    folder = new_plugin(name, parent)
    out.print(escape(f"{folder}: now `pip install -e {folder}`, `aezoo plugins`, and `pytest {folder}`"))


@app.command("check-plugin")
def check_plugin(
    name: Annotated[str, typer.Argument(help="An installed plugin's distribution, such as aezoo-sae.")],
    as_json: Json = False,
) -> None:
    """Check every kind and variant of an installed plugin against the contract."""
    from aezoo.testing import reports_of

    reports = reports_of(name)
    if as_json:
        _print_json([asdict(report) for report in reports])
    else:
        for report in reports:
            out.print(escape(str(report)))
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

    out.print(escape(str(write_index(root_, license=license_))))


@app.command()
def card(name: Annotated[str, typer.Argument(help="A variant's name, or a folder such as ./mine.")]) -> None:
    """Print the model card of a variant."""
    from aezoo.zoo.load import download_all
    from aezoo.zoo.model_card import card

    print(card(download_all(name), address=name), end="")


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
                plan = plan_push(one, org=org, license=license_)
            except HubError as error:
                # A dry run works without login and offline.
                print(
                    f"{error}; shown as it would be for a user called {PLACEHOLDER_USER!r}", file=sys.stderr
                )
                org = PLACEHOLDER_USER
                plan = plan_push(one, org=org, license=license_)
            if as_json:
                sizes = {file: len(raw) for file, raw in plan.contents.items()}
                done.append({"repository": plan.repository, "files": sizes})
                continue
            out.print(f"[bold]{escape(plan.repository)}[/bold] would hold")
            files = _table("file", "bytes")
            for file, raw in plan.contents.items():
                files.add_row(file, f"{len(raw):,}")
            out.print(files)
            if name is not None:
                print(plan.contents["README.md"].decode(), end="")
        if as_json:
            _print_json(done)
        return
    for one in names:
        published = push_(one, org=org, private=private, tag=tag, license=license_)
        done.append(asdict(published))
        if not as_json:
            what = f"{len(published.changed)} files changed" if published.changed else "nothing changed"
            print(f"{published.url} at {published.commit}: {what}; every file was downloaded and compared")
    if as_json:
        _print_json(done)


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
            print(f"{kind} is under {root_}; set AEZOO_DATA={root_} to use it")
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
                print(f"{folder}: verified; {how}")
    if as_json:
        _print_json(done)


def _load_plugin_files(files: list[Path] | None) -> None:
    from aezoo.plugins.registry import load_plugin_file

    for file in files or []:
        load_plugin_file(file)


def _spec_file(text: str) -> Path | None:
    """Returns the file an argument names; None if it is a variant's name."""
    path = Path(text)
    return path if path.suffix in (".yaml", ".yml") or path.is_file() else None


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


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    numeric = {"parameters", "bytes", "value", "samples", *Headline}
    words = {"variant", "measured on", "input", "latents", "layer", "metric", "file", "plugin", "protocol"}
    for column in columns:
        # Headings of two words may take two lines, so that `list` fits into 80 columns.
        whole = column in numeric | words and column != "dead_latents"
        justify = "right" if column in numeric else "left"
        heading = column.replace("_", " ")
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=whole)
    return table


def _shape(sizes: list[int]) -> str:
    return "x".join(map(str, sizes))


def _number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "null"
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.{digits}g}"


def _print_json(data: object) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))
