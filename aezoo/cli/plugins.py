"""Commands for plugins: plugins, new-plugin, check-plugin."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from aezoo.cli.application import Json, Plugins, app, load_plugin_files
from aezoo.terminal import print_json, print_line, print_lines, print_table


@app.command()
def plugins(plugin: Plugins = None, as_json: Json = False) -> None:
    """List plugins with distribution, version, contract and registered kinds."""
    load_plugin_files(plugin)
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
