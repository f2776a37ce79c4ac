"""Commands that run a trained autoencoder on files: encode, decode, reconstruct, score."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aezoo.cli.application import Json, Plugins, Variant, app, load_plugin_files, number
from aezoo.terminal import print_error, print_json, print_line, print_table
from aezoo.text import printable

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="A folder of images, images, an array (.npy, .npz, .safetensors), a table (.csv, .parquet), or "
        "a split such as mnist:test.",
    ),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="What to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")]
Key = Annotated[str | None, typer.Option(help="Name of the array in a file that has several.")]
SkipCorrupt = Annotated[bool, typer.Option("--skip-corrupt", help="Leave out images that cannot be read.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Samples in a batch.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Report no progress.")]


@app.command()
def encode(
    name: Variant,
    inputs: Inputs,
    out: Out,
    dense: Annotated[
        bool, typer.Option("--dense", help="Write all latents of a sparse code, not index and value.")
    ] = False,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="ray encodes on several workers; needs the extra ray.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Ray's workers. [default: one for each CPU]", show_default=False)
    ] = None,
    key: Key = None,
    skip_corrupt: SkipCorrupt = False,
    force: Force = False,
    batch_size: BatchSize = 256,
    quiet: Quiet = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Encode images, arrays or tables to a file of latents: .npy, .npz, .safetensors or .parquet."""
    load_plugin_files(plugin)
    from aezoo.inference.run import encode_to_file

    result = encode_to_file(
        name, _given(inputs), out, dense=dense, engine=engine, workers=workers, key=key,
        skip_corrupt=skip_corrupt, force=force, batch_size=batch_size, progress=not quiet,
    )  # fmt: skip
    _report(result, as_json)
    if not as_json and result.code_bytes is not None:
        sizes = f"{result.code_bytes:,.0f} bytes per sample for {result.item_bytes:,.0f}"
        ratio = result.item_bytes / result.code_bytes
        times = f"{number(ratio)} times smaller" if ratio >= 1 else f"{number(1 / ratio)} times larger"
        print_line(f"latents: {sizes}, {times}")


@app.command()
def decode(
    name: Variant,
    latents: Annotated[Path, typer.Argument(help="A file of latents, as `aezoo encode` writes it.")],
    out: Out,
    force: Force = False,
    batch_size: BatchSize = 256,
    quiet: Quiet = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Decode latents to a folder of images, or to a .npy, .npz, .safetensors, .parquet or .csv file."""
    load_plugin_files(plugin)
    from aezoo.inference.run import decode_to

    result = decode_to(name, latents, out, force=force, batch_size=batch_size, progress=not quiet)
    _report(result, as_json)


@app.command()
def reconstruct(
    name: Variant,
    inputs: Inputs,
    out: Out,
    key: Key = None,
    skip_corrupt: SkipCorrupt = False,
    force: Force = False,
    batch_size: BatchSize = 256,
    quiet: Quiet = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Encode and decode: clean or colour a folder of images, with the same names, or write numbers."""
    load_plugin_files(plugin)
    from aezoo.inference.run import reconstruct_to

    result = reconstruct_to(
        name, _given(inputs), out, key=key, skip_corrupt=skip_corrupt, force=force, batch_size=batch_size,
        progress=not quiet,
    )  # fmt: skip
    _report(result, as_json)


@app.command()
def score(
    name: Variant,
    inputs: Inputs,
    out: Out,
    threshold: Annotated[
        float | None, typer.Option(help="Accepted share of false alarms, such as 0.01; needs --calibrate.")
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(metavar="GOOD", help="Usual samples, none of the training.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Name the column or the pixel with the largest error.")
    ] = False,
    key: Key = None,
    skip_corrupt: SkipCorrupt = False,
    force: Force = False,
    batch_size: BatchSize = 256,
    quiet: Quiet = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Score how unusual each sample is by its mean squared error; with a threshold, say which are."""
    load_plugin_files(plugin)
    from aezoo.inference.run import score_to_file

    result = score_to_file(
        name, _given(inputs), out, calibrate=calibrate, threshold=threshold, explain=explain, key=key,
        skip_corrupt=skip_corrupt, force=force, batch_size=batch_size, progress=not quiet,
    )  # fmt: skip
    _report(result, as_json)
    if not as_json and result.threshold is not None:
        print_line(
            f"anomalous: {result.anomalous:,} with an error above {number(result.threshold)}; of the "
            f"calibration samples, {number(result.false_alarm_rate)} are"
        )


@app.command()
def compare(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Variants, or folders such as ./mine.")
    ],
    on: Annotated[
        str | None,
        typer.Option(
            help="A folder, a file, or a split such as mnist:test. [default: the test split of their "
            "dataset]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for comparison.json, samples.png and pareto.png."),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="Samples to which PCA is fitted. [default: training samples]", show_default=False),
    ] = None,
    key: Key = None,
    skip_corrupt: SkipCorrupt = False,
    force: Force = False,
    batch_size: BatchSize = 256,
    quiet: Quiet = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Compare variants on the same samples, with PCA among them: errors, sizes and times."""
    load_plugin_files(plugin)
    from aezoo.inference.comparison import check_folder
    from aezoo.inference.comparison import compare as compare_

    if out is not None:
        check_folder(out.expanduser(), force=force)
    found = compare_(
        names, on, fit=fit, key=key, skip_corrupt=skip_corrupt, batch_size=batch_size, progress=not quiet
    )
    if out is not None:
        found.save(out, force=force)
    if as_json:
        print_json(found.as_dict())
        return
    print_table(
        ("name", "mse", "fvu", "l0", "latents", "parameters", "milliseconds"),
        (
            (
                row.name, number(row.mse), number(row.fvu), number(row.l0), number(row.latents),
                number(row.parameters), number(row.milliseconds, digits=3),
            )
            for row in found.rows
        ),
        drop=("parameters", "fvu"),
    )  # fmt: skip
    print_line(f"on {found.data}: {found.n:,} samples; errors in {found.units}")
    print_line(f"pca: fitted to {found.pca_data}; milliseconds: for a batch of {found.batch}")
    if out is not None:
        print_line(f"{out}: comparison.json, samples.png, pareto.png")


@app.command()
def report(
    name: Variant,
    out: Out,
    on: Annotated[
        str | None,
        typer.Option(
            help="A folder, a file, or a split such as mnist:test. [default: the validation split]",
            show_default=False,
        ),
    ] = None,
    key: Key = None,
    skip_corrupt: SkipCorrupt = False,
    force: Force = False,
    quiet: Quiet = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write a self-contained HTML page that shows what each latent does: .html."""
    load_plugin_files(plugin)
    from aezoo.report.page import write_report

    found = write_report(name, out, on, key=key, skip_corrupt=skip_corrupt, force=force, progress=not quiet)
    if as_json:
        print_json({**asdict(found), "path": str(found.path)})
        return
    dead = f", {found.dead:,} dead" if found.dead else ""
    what = f"{found.latents:,} latents{dead}, {found.detailed:,} with pictures"
    print_line(f"{found.path}: {what}, {found.n:,} samples, {found.bytes / 1e6:.1f} MB")


FigureKind = Literal[
    "reconstructions", "latents", "dictionary", "embedding", "l0", "activations", "walk", "samples",
    "manifold", "class-errors", "roc", "history", "layers",
]  # fmt: skip


@app.command()
def plot(
    name: Variant,
    kind: Annotated[FigureKind, typer.Argument(metavar="KIND", help="One of the kinds below.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="What to write: .png, .svg or .pdf.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="A folder, a file, or a split such as mnist:test. [default: the digits that ship with "
            "aezoo, or the validation split]",
            show_default=False,
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            min=1,
            max=10_000,
            help="Number of samples. [default: depends on the kind]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of samples, noises, t-SNE and UMAP.")] = 0,
    method: Annotated[
        Literal["auto", "pca", "tsne", "umap", "none"],
        typer.Option(
            help="Projection of embedding; auto: the latents themselves if they fit, otherwise PCA."
        ),
    ] = "auto",
    dimensions: Annotated[int, typer.Option(min=2, max=3, help="Of embedding.")] = 2,
    dark: Annotated[bool, typer.Option("--dark", help="Draw on a dark background.")] = False,
    key: Key = None,
    skip_corrupt: SkipCorrupt = False,
    force: Force = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Draw a figure of a variant.

    KIND is one of reconstructions, latents, dictionary, embedding, l0, activations, walk, samples, manifold,
    class-errors, roc, history, layers.
    """
    load_plugin_files(plugin)
    from aezoo.inference.figures import plot_to_file

    found = plot_to_file(
        name, kind, out, data, n=n, seed=seed, method=method, dimensions=dimensions, dark=dark, key=key,
        skip_corrupt=skip_corrupt, force=force,
    )  # fmt: skip
    if as_json:
        print_json({**asdict(found), "path": str(found.path)})
        return
    print_line(f"{found.path}: {found.kind}" + (f", {found.n:,} samples, {found.data}" if found.n else ""))


def _given(inputs: list[str]) -> Any:
    return inputs[0] if len(inputs) == 1 else inputs


def _report(result: Any, as_json: bool) -> None:
    for name, reason in result.skipped.items():
        print_error(f"skipped {printable(name)}: {reason}")
    if as_json:
        print_json({
            "path": str(result.path), "n": result.n, "skipped": result.skipped,
            "item_bytes": result.item_bytes, "code_bytes": result.code_bytes, "ratio": result.ratio,
            "threshold": result.threshold, "false_alarm_rate": result.false_alarm_rate,
            "anomalous": result.anomalous,
        })  # fmt: skip
        return
    skipped = f", {len(result.skipped):,} skipped" if result.skipped else ""
    print_line(f"{result.path}: {result.n:,} sample{'s' * (result.n != 1)}{skipped}")
