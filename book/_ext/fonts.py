"""Fonts cut down to the letters that the pages show."""

import logging
from collections.abc import Iterable
from pathlib import Path

from fontTools import subset

logging.getLogger("fontTools").setLevel(logging.WARNING)


def cut(source: Path, target: Path, codes: Iterable[int]) -> None:
    """Write the font `source` as WOFF with the given characters only, those that it has."""
    options = subset.Options(flavor="woff", notdef_outline=True, ignore_missing_unicodes=True)
    options.layout_features = []  # each character stands where it is put
    options.hinting = False
    options.drop_tables += ["FFTM"]  # a time stamp
    font = subset.load_font(source, options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=codes)
    cutter.subset(font)
    target.parent.mkdir(parents=True, exist_ok=True)
    subset.save_font(font, target, options)
