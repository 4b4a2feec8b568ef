"""Every measure, each declared once; the order is that of columns and rows.

`columns` derives from it what files hold; the summary (`measure.summary`), its shape (`runs.shapes`), and the rows,
headings and labels of reports do as well. `docs/measures.md` lists it (`python -m scripts.measures`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from perception_gap.metrics.divergence import js_divergence, kl_divergence, top_k_overlap
from perception_gap.metrics.maps import (
    entropy,
    relative_entropy,
    salient_region_count,
    salient_region_fraction,
)
from perception_gap.metrics.measure import Given, Measure, OfMap, OfPair
from perception_gap.metrics.saliency import correlation_coefficient, similarity
from perception_gap.metrics.transport import coarse_earth_movers_distance

SHARE, POSITIVE = (0.0, 1.0), (0.0, math.inf)

_OF_MAPS = (
    OfMap(
        name="mass",
        function=lambda attention, _: float(attention.sum()),
        heading="text–image mass",
        unit="%",
        range=SHARE,
        scopes=("layer",),
        doc="how much of a layer's or head's attention goes to the image: the sum of its raw map",
    ),
    OfMap(
        name="focus_score",
        function=lambda attention, region: region.share(attention),
        heading="focus score",
        short="focus",
        unit="%",
        range=SHARE,
        scopes=("sample", "word", "without sinks", "latent", "layer", "model", "bench"),
        doc="share of the map inside the reference boxes, by exact area (paper, eq. 1)",
    ),
    OfMap(
        name="focus_chance",
        function=lambda _, region: region.chance,
        heading="chance (uniform map)",
        short="chance",
        unit="%",
        range=SHARE,
        scopes=("sample",),
        path="focus_score.chance",
        doc="focus score of the uniform map",
    ),
    OfMap(
        name="focus_lift",
        function=lambda attention, region: region.lift(attention),
        heading="lift (focus / chance)",
        short="lift",
        unit="×",
        range=POSITIVE,
        scopes=("sample", "without sinks", "model", "bench"),
        path="focus_score.lift",
        doc="focus score / chance, so that box sizes compare; of a layer too: its focus score / chance",
    ),
    OfMap(
        name="pointing_game",
        function=lambda attention, region: region.peak_inside(attention),
        heading="pointing game",
        unit="%",
        range=SHARE,
        scopes=("sample", "without sinks", "model", "bench"),
        doc="1 where the centre of the token with the largest weight lies in a box, else 0",
    ),
    Given(
        name="text_image_mass",
        heading="text–image mass",
        unit="%",
        range=SHARE,
        scopes=("sample", "model"),
        doc="how much of the text's attention goes to the image at all, from the raw rows",
    ),
    OfMap(
        name="entropy",
        function=lambda attention, _: entropy(attention),
        heading="entropy",
        unit="nats",
        range=POSITIVE,
        scopes=("sample", "word", "without sinks", "latent", "bench"),
        spread=True,
        doc="−Σ p ln p of the map; a uniform map of N tokens has ln N (paper, eq. 10)",
    ),
    OfMap(
        name="relative_entropy",
        function=lambda attention, _: relative_entropy(attention),
        heading="relative to ln N",
        short="relative entropy",
        unit="%",
        range=SHARE,
        scopes=("sample", "without sinks", "model", "bench"),
        path="entropy.relative",
        doc="entropy / ln N, comparable over grids",
    ),
    OfMap(
        name="salient_regions",
        function=lambda attention, _: salient_region_count(attention),
        heading="salient regions",
        unit="tokens",
        range=POSITIVE,
        scopes=("sample", "without sinks", "bench"),
        spread=True,
        doc="tokens whose weight exceeds 1.5 × the mean weight (paper, table 2)",
    ),
    OfMap(
        name="salient_fraction",
        function=lambda attention, _: salient_region_fraction(attention),
        heading="of all tokens",
        short="salient fraction",
        unit="%",
        range=SHARE,
        scopes=("sample", "without sinks"),
        path="salient_regions.fraction",
        doc="salient regions / N",
    ),
)
_OF_PAIRS = (
    OfPair(
        name="kl",
        function=kl_divergence,
        heading="KL(teacher ‖ student)",
        unit="nats",
        range=POSITIVE,
        nearer="lower",
        floor="kl_floor",
        scopes=("sample", "word", "without sinks", "latent", "layer", "pair", "model"),
        shown=("sample", "words", "categories"),
        doc="Σ p ln(p / q): large where the student ignores what the teacher looks at (paper, figure 3)",
    ),
    OfPair(
        name="js",
        function=js_divergence,
        heading="JS divergence",
        short="JS",
        unit="nats",
        range=(0.0, math.log(2)),
        nearer="lower",
        floor="js_floor",
        scopes=("sample", "word", "without sinks", "layer", "pair", "model"),
        doc="mean KL of both maps from their average; symmetric",
    ),
    OfPair(
        name="top_k_overlap",
        function=top_k_overlap,
        heading="top-k overlap",
        unit="%",
        range=SHARE,
        nearer="higher",
        floor="top_k_floor",
        scopes=("sample", "word", "without sinks", "pair"),
        shown=("words",),
        doc="how many of the 8 tokens with the largest weights both maps share, / 8",
    ),
    OfPair(
        name="cc",
        function=correlation_coefficient,
        heading="correlation CC",
        short="CC",
        unit="",
        range=(-1.0, 1.0),
        nearer="higher",
        floor="cc_floor",
        scopes=("sample", "word", "without sinks", "pair"),
        doc="Pearson's correlation of the weights; NaN where a map is uniform",
    ),
    OfPair(
        name="similarity",
        function=similarity,
        heading="similarity SIM",
        short="SIM",
        unit="%",
        range=SHARE,
        nearer="higher",
        floor="similarity_floor",
        scopes=("sample", "word", "without sinks", "pair"),
        doc="Σ min(p, q): 1 − total variation distance",
    ),
    OfPair(
        name="emd",
        function=coarse_earth_movers_distance,
        raster=True,
        heading="earth mover's distance",
        short="EMD",
        unit="of a side",
        range=(0.0, math.sqrt(2)),
        nearer="lower",
        floor="emd_floor",
        scopes=("sample", "without sinks", "pair"),
        doc="how far attention has to travel, in fractions of the picture's sides, on at most 16 × 16 cells",
    ),
    OfPair(
        name="kl_reverse",
        function=lambda first, second: kl_divergence(second, first),
        heading="KL(student ‖ teacher)",
        unit="nats",
        range=POSITIVE,
        nearer="lower",
        scopes=("pair",),
        doc="KL the other way round: large where the second looks at what the first ignores",
    ),
    Given(
        name="cosine_distance",
        heading="cosine distance",
        unit="",
        range=(0.0, 2.0),
        nearer="lower",
        floor="cosine_floor",
        scopes=("word",),
        shown=("words", "categories"),
        doc="1 − cosine of a word's hidden states in both models, after a cross-fitted orthogonal alignment",
    ),
)
_OTHERS = (
    Given(
        name="n_sinks",
        heading="attention sinks",
        short="sinks",
        unit="tokens",
        range=POSITIVE,
        scopes=("sample",),
        path="sinks.n_sinks",
        doc="image tokens that draw attention whatever they show",
    ),
    Given(
        name="sink_share",
        heading="their share of the map",
        short="sink share",
        unit="%",
        range=SHARE,
        scopes=("sample", "model"),
        path="sinks.sink_share",
        doc="share of the map that lies on sinks",
    ),
    Given(
        name="target_kl",
        heading="KL(target ‖ student)",
        unit="nats",
        range=POSITIVE,
        nearer="lower",
        scopes=(),
        doc="KL of the last latent token's map from what it was trained on (`gapcheck ablate`)",
    ),
)
TABLE: dict[str, Measure] = {measure.name: measure for measure in (*_OF_MAPS, *_OF_PAIRS, *_OTHERS)}


@contextmanager
def declared(*measures: Measure) -> Iterator[None]:
    """These measures too, behind the others, for as long as the context lasts.

    ValueError where the name of one, or of its floor, is taken.
    """
    before = dict(TABLE)
    try:
        for measure in measures:
            taken = {name for other in TABLE.values() for name in (other.name, other.floor) if name}
            if twice := taken & {measure.name, measure.floor}:
                raise ValueError(f"measure {measure.name!r}: column {', '.join(sorted(twice))} is declared already")
            TABLE[measure.name] = measure
        yield
    finally:
        TABLE.clear()
        TABLE.update(before)
