"""The command that exports a trained autoencoder to a file: export."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from aezoo.cli.application import Json, Plugins, Variant, app, load_plugin_files, number
from aezoo.terminal import print_json, print_line


@app.command()
def export(
    name: Variant,
    format: Annotated[
        Literal["onnx", "torch", "python"],
        typer.Option(help="onnx: for onnxruntime; torch: a program of torch.export; python: source code."),
    ] = "onnx",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="What to write; NAME and a suffix by default.")
    ] = None,
    encoder_only: Annotated[bool, typer.Option("--encoder-only", help="Give the latents alone.")] = False,
    with_score: Annotated[
        bool, typer.Option("--with-score", help="Give minus the mean squared error of each sample, too.")
    ] = False,
    samples: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="What to compare on, as for `aezoo encode`; the test split of the dataset by default.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output if it exists.")] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Write a file that runs without aezoo, after comparing it with aezoo on test data."""
    load_plugin_files(plugin)
    from aezoo.exporting.run import export as export_to

    result = export_to(
        name, out, format=format, encoder_only=encoder_only, with_score=with_score, samples=samples,
        force=force,
    )  # fmt: skip
    if as_json:
        print_json({"path": str(result.path), **result.record})
        return
    comparison = result.comparison
    differences = ", ".join(f"{key} {number(d.relative, 2)}" for key, d in comparison.differences.items())
    written = [
        str(result.path),
        *([result.record["weights_file"]] if "weights_file" in result.record else []),
    ]
    print_line(f"{', '.join(written)}: compared with aezoo on {comparison.n:,} samples ({comparison.data})")
    print_line(f"largest difference: {differences}")
    for metric, values in comparison.metrics.items():
        print_line(
            f"{metric}: {number(values['aezoo'], 6)} by aezoo, {number(values['file'], 6)} by the file"
        )
    if undecided := comparison.undecided:
        numbers = ", ".join(str(found["sample"]) for found in undecided[:5])
        more = ", ..." if len(undecided) > 5 else ""
        print_line(
            f"undecided: {len(undecided):,} sample{'s' * (len(undecided) != 1)} ({numbers}{more}), whose "
            "latents depend on rounding: values that tie, or that are at a threshold"
        )
