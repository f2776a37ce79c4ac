"""Draws the previews of all published variants again: `python docs/redraw.py [NAME ...]`.

Pictures show the first samples of the validation split, as after a training. Only `preview.png` is written,
and then, for every zoo, the model cards and the index. It needs the datasets under AEZOO_DATA.
"""

import sys
from pathlib import Path
from typing import Literal

import aezoo
from aezoo.evaluation.evaluate import load_split
from aezoo.files import write_atomically
from aezoo.training.run import set_examples
from aezoo.zoo.save import draw_preview
from aezoo.zoo.write_index import write_index

ROOT = Path(__file__).resolve().parent.parent
ZOOS = [ROOT / "zoo", *sorted(ROOT.glob("plugins/*/*/zoo"))]


def preview(folder: Path, theme: Literal["light", "dark"] = "light") -> bytes:
    """The preview of the variant in a folder."""
    ae = aezoo.load(str(folder))
    assert isinstance(ae.spec, aezoo.VariantSpec)
    set_examples(ae, load_split(ae, "validation"), ae.spec)
    picture = draw_preview(ae, theme)
    assert picture is not None
    return picture


def main(names: list[str]) -> None:
    """Draws the previews of these variants, by default of all."""
    for zoo in ZOOS:
        for config in sorted(zoo.glob("*/config.json")):
            if not names or config.parent.name in names:
                write_atomically(config.parent / "preview.png", preview(config.parent))
                print(config.parent.relative_to(ROOT))
        write_index(zoo)


if __name__ == "__main__":
    main(sys.argv[1:])
