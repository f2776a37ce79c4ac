"""Commands for the Hugging Face Hub: push, pull."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from aezoo.cli.application import Json, Plugins, app, as_load_argument, load_plugin_files
from aezoo.errors import HubError
from aezoo.terminal import print_error, print_json, print_line, print_lines, print_table

PLACEHOLDER_USER = "you"


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
    sign: Annotated[
        Path | None,
        typer.Option(help="Sign the files by a private key (PEM); needs the extra sign.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Show the files, their sizes and the card; upload nothing.")
    ] = False,
    plugin: Plugins = None,
    as_json: Json = False,
) -> None:
    """Publish a variant on the Hugging Face Hub, then download and compare every file."""
    load_plugin_files(plugin)
    from aezoo.zoo.index import core_variants
    from aezoo.zoo.push import plan_push
    from aezoo.zoo.push import push as push_
    from aezoo.zoo.signing import check_key

    if (name is None) != all_:
        raise typer.BadParameter("name one variant or folder, or give --all")
    # --all means aezoo's own variants; those of a plugin are pushed by its author.
    names = core_variants() if name is None else [name]
    done: list[dict[str, Any]] = []
    if dry_run:
        if sign is not None:
            check_key(sign)
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
            one, org=org, private=private, tag=tag, license=license_, allow_modified=allow_modified,
            sign=sign,
        )  # fmt: skip
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
                how = f"load it with aezoo.load({as_load_argument(folder)!r})"
                how = how if one.startswith(HUB) else f"set AEZOO_ZOO={folder.parent} to load it by name"
                print_line(f"{folder}: verified; {how}")
    if as_json:
        print_json(done)
