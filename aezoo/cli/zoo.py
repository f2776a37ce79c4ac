"""Commands that show variants: list, show, demo, card, index."""

import os
from pathlib import Path
from typing import Annotated

import typer

from aezoo.cli.application import HEADLINE, Json, Variant, app, number, shape
from aezoo.terminal import print_json, print_line, print_lines, print_table


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
                shape(entry["input"]),
                shape(entry["latents"]),
                f"{entry['parameters']:,}",
                *(number(entry["metrics"].get(metric)) for metric in HEADLINE),
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
    sizes = f"{shape(entry['input'])} -> {shape(entry['latents'])} latents"
    data = entry["dataset"] or "data without a name"
    print_line(f"{sizes}, {entry['parameters']:,} parameters, trained on {data}")
    if entry["references"]:
        print_line(", ".join(entry["references"]))
    print_line(f"hub:{entry['repository']}@{entry['commit']}" if entry["commit"] else "not on the Hub yet")
    print_line("")
    print_table(
        ("layer", "kind", "output", "parameters"),
        (
            (layer["path"], layer["kind"], shape(layer["output"]), f"{layer['parameters']:,}")
            for layer in entry["layers"]
        ),
        drop=("parameters", "output"),
    )
    print_line("")
    print_table(("metric", "value"), ((metric, number(value)) for metric, value in entry["metrics"].items()))
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
    values = {heading: number(found.metrics[metric]["value"]) for metric, heading in headings.items()}
    values["load"] = f"{1000 * found.load_seconds:.0f} ms"
    values["encode + decode"] = f"{1000 * found.run_seconds:.1f} ms"
    print_table(("measured", "value"), values.items())
    print_line(f"picture: {found.picture}")


@app.command()
def card(name: Variant) -> None:
    """Print the model card of a variant."""
    from aezoo.zoo.load import download_all
    from aezoo.zoo.model_card import card

    print_lines(card(download_all(name), address=name))


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
