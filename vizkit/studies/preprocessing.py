"""Did the network get the pixels it was trained on, and does it matter? `check_preprocess`."""

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..embeddings import Embeddings
from ..encoders import Encoder
from ..errors import InputError
from ..extraction import embed
from ..figures import gallery_figure
from ..graph import nearest_rows, neighbor_graph
from ..images import ImageSet
from ..measured import Colors, measured_colors, picture
from ..preprocess import described

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

_RESAMPLES = 2000
_BLOCK = 4096  # vectors compared at a time


@dataclass(frozen=True, eq=False, repr=False)
class PreprocessCheck:
    """What another preprocess changes, for one network and one set of images.

    Attributes
    ----------
    kept
        Share in [0, 1] of the k nearest neighbors under one preprocess that are among the k nearest under the other,
        mean over the images; 1.0 where both give the same vectors.
    interval
        95% bootstrap interval of `kept` over the images (percentiles, 2000 resamples), the set that is searched fixed.
    chance
        What `kept` would be for neighbors drawn at random: k / (n - 1).
    self_retrieval
        Share in [0, 1] of the images whose vector as given is nearest to their own vector under the other preprocess. A
        common check, and a blind one: it stays near 1 while neighbors change. NaN where the vectors differ in length.
    cosine
        Between the two vectors of an image, mean over the images. NaN where the vectors differ in length.
    frame
        One row an image, index id: kept in [0, 1] and cosine, worst first.
    settings
        What each preprocess does: one row a property, columns "as given" and "against".
    failures
        Images left out because one of the two gave no vector: columns id, path, reason, under ("as given" or
        "against").
    k
        Neighbors looked at.
    images, encoder, against
        What was compared: the images, the encoder as given, and the same network with the other preprocess.
    """

    kept: float
    interval: tuple[float, float]
    chance: float
    self_retrieval: float
    cosine: float
    frame: pd.DataFrame
    settings: pd.DataFrame
    failures: pd.DataFrame
    k: int
    images: ImageSet
    encoder: Encoder
    against: Encoder

    @property
    def differences(self) -> list[str]:
        """The properties of `settings` that are known for both preprocesses and differ."""
        return [name for name, given, against in self._properties() if given != against and _known(given, against)]

    @property
    def unknown(self) -> list[str]:
        """The properties of `settings` that are not known for both, so that they may differ."""
        return [name for name, given, against in self._properties() if not _known(given, against)]

    def _properties(self) -> list[tuple[str, str, str]]:
        table = self.settings.drop(index="preprocess").replace(" [(]measured[)]", "", regex=True)
        return list(table.itertuples(name=None))

    @property
    def summary(self) -> str:
        """The result in one line."""
        low, high = self.interval
        left_out = self.failures["id"].nunique()
        return (
            f"{self.kept:.2f} of the {self.k} nearest neighbors kept (95% interval {low:.2f} to {high:.2f}; chance "
            f"{self.chance:.2f}); self-retrieval {self.self_retrieval:.2f}, cosine {self.cosine:.2f}; "
            f"{len(self.frame)} images" + (f", {left_out} left out" if left_out else "")
        )

    def figure(self, n: int = 4) -> "go.Figure":
        """Draw what the network sees of the images that keep fewest neighbors.

        Each row shows the original, and what the network gets under either preprocess, titled with one thing in which
        the two differ. Both are turned back into pictures with the mean, standard deviation and channel order of one
        reference: the preprocess that came with the weights, or for a module the one it is compared with. So a picture
        shows what the network sees relative to what it was trained on: a missing normalization looks washed out,
        swapped channels look swapped, and a squash distorts.
        Where the reference has no mean that can be measured, values are stretched to [0, 1], picture by picture.

        Parameters
        ----------
        n
            Images, 1 or more; where there are fewer, all of them.

        Raises
        ------
        InputError
            n is no whole number from 1.
        """
        n = _count(n, "n", "images")
        reference, words = self._reference()
        changed = next(iter(sorted(self.differences, key="colors".__ne__)), "preprocess")
        says = self.settings.loc[changed].str.replace("( pixels)?( [(]measured[)])?$", "", regex=True)
        rows = []
        for id, kept, cosine in self.frame.head(n)[["kept", "cosine"]].itertuples():
            image = self.images[self.images.row(id)]
            titles = [f"{id}\nkept {kept:.2f}, cosine {cosine:.2f}"]
            pictures = [np.asarray(image)]
            for column, encoder in (("as given", self.encoder), ("against", self.against)):
                titles.append(f"{column}\n{changed}: {says[column]}")
                pictures.append(picture(encoder.preprocess(image).numpy(), reference))
            rows.append(list(zip(titles, pictures, strict=True)))
        return gallery_figure(rows, f"{self.encoder.name}: {self.summary}", note=words)

    def _reference(self) -> tuple[Colors | None, str]:
        """Return the colors that tensors are drawn with, and words that say so."""
        official = self.encoder.official
        named = [(official, self.encoder.official_transforms)] if official is not None else []
        for preprocess, name in [*named, (self.against.input.function, "the preprocess compared with")]:
            colors = measured_colors(preprocess)
            if colors.mean is not None:
                return colors, (
                    f"Left: the image. Middle and right: what the network gets, drawn with mean, std and channel order "
                    f"of {name}. What looks wrong is wrong relative to it."
                )
        return None, (
            "Left: the image. Middle and right: what the network gets. No mean is known, so values are stretched to "
            "[0, 1] in each picture, and colors cannot be compared between pictures."
        )

    def __repr__(self) -> str:
        return f"<PreprocessCheck: {self.summary}; they differ in {', '.join(self.differences) or 'nothing known'}>"

    def _repr_html_(self) -> str:
        low, high = self.interval
        rows = {
            f"share of the {self.k} nearest neighbors kept": f"{self.kept:.3f} ({low:.3f} to {high:.3f})",
            "by chance": f"{self.chance:.3f}",
            "self-retrieval (stays near 1 while neighbors change)": f"{self.self_retrieval:.3f}",
            "cosine between the two vectors of an image": f"{self.cosine:.3f}",
            "images": str(len(self.frame)),
            "left out": str(self.failures["id"].nunique()),
        }
        words = f"The two differ in: {', '.join(self.differences) or 'nothing that is known here'}."
        if self.unknown:
            words += f" Not known for both: {', '.join(self.unknown)}."
        with pd.option_context("display.max_colwidth", None):  # pandas escapes the values
            table = pd.DataFrame({"value": pd.Series(rows)}).to_html(header=False)
            settings = self.settings.to_html(justify="left")
        return f"<div>{table}<p>{html.escape(words)}</p>{settings}</div>"


def check_preprocess(
    images: ImageSet,
    encoder: Encoder,
    against: "str | Callable[[Image.Image], Tensor] | None" = None,
    *,
    k: int = 10,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = True,
) -> PreprocessCheck:
    """Find out whether a network gets the pixels it was trained on, and whether that matters for who is near whom.

    Wrong pixels raise no error, and each image stays nearest to itself. So all images are embedded under both
    preprocesses, and the k nearest others of every image, found exactly by cosine, are compared.

    Parameters
    ----------
    images
        The images; a few hundred will do.
    encoder
        The network, with the preprocess in question.
    against
        The preprocess to compare with: a name ("imagenet", "[0,1]", "[-1,1]", "grayscale") or a callable from a PIL
        image to a float tensor (3, h, w). By default the one that came with the weights.
    k
        Neighbors an image, 1 or more.
    seed
        Of the bootstrap.
    cache, progress
        As for `embed`.

    Returns
    -------
    PreprocessCheck
        `kept` beside `chance`, `frame` with every image, `settings` with what differs, and `figure()`.

    Raises
    ------
    InputError
        `images` or `encoder` is of another kind; `against` is left out and the network was given as a module; the
        network cannot run on what `against` gives; or fewer than k + 2 images gave a vector under both.
    """
    if not isinstance(images, ImageSet):
        raise InputError(f"images must be an ImageSet, not {type(images).__name__}: use vk.ImageSet.from_folder(...).")
    if not isinstance(encoder, Encoder):
        raise InputError(f"encoder must be an Encoder, not {type(encoder).__name__}: wrap it in vk.Encoder(...).")
    k = _count(k, "k", "neighbors")
    other = _other(encoder, against)
    pair = [embed(images, encoder, cache=cache, progress=progress)]
    with TemporaryDirectory(prefix="vizkit-check-") as apart:
        # The cache tells a preprocess by what it makes of two drawn images. One that is equal there may still treat
        # some of these images in another way, and must not be answered with the vectors of the first.
        alike = other.fingerprint == encoder.fingerprint and other.input.function is not encoder.input.function
        pair.append(embed(images, other, cache=apart if alike else cache, progress=progress))
    failures = pd.concat(
        [e.failures.assign(under=name) for e, name in zip(pair, ("as given", "against"), strict=True)],
        ignore_index=True,
    )
    a, b = _in_both(*pair)
    if len(a) < k + 2:
        why = f" The first of {len(failures)} failures: {failures['reason'].iloc[0]}" if len(failures) else ""
        raise InputError(
            f"{len(a)} of {len(images)} images gave a vector under both preprocesses; expected {k + 2} or more for "
            f"k = {k}. Give more images, or a smaller k.{why}"
        )
    hits = _overlap(neighbor_graph(a, k).indices, neighbor_graph(b, k).indices)
    cosines, found = _own(a, b)
    frame = pd.DataFrame({"kept": hits / k, "cosine": cosines}, index=a.frame.index)
    if against is None:
        other.transforms = encoder.official_transforms
    return PreprocessCheck(
        kept=float(hits.sum() / (k * len(hits))),
        interval=_interval(hits, k, seed),
        chance=k / (len(hits) - 1),
        self_retrieval=float(found.mean()),
        cosine=float(cosines.mean()),
        frame=frame.sort_values(["kept", "cosine"], kind="stable"),
        settings=pd.DataFrame(
            {"as given": _said(encoder, encoder.transforms), "against": _said(other, other.transforms)}
        ),
        failures=failures,
        k=k,
        images=images,
        encoder=encoder,
        against=other,
    )


def _other(encoder: Encoder, against: Any) -> Encoder:
    """Return the encoder with the preprocess to compare with."""
    if against is None:
        if encoder.official is None:
            raise InputError(
                f"{encoder.name} was given as a module, and no preprocess came with its weights. Say with against= "
                "what it was trained on: a name ('imagenet', '[0,1]', '[-1,1]', 'grayscale') or a callable."
            )
        return encoder.with_preprocess(encoder.official)
    if not isinstance(against, str) and not callable(against):
        raise InputError(
            f"against is {against!r}; expected a name ('imagenet', '[0,1]', '[-1,1]', 'grayscale'), a callable from a "
            "PIL image to a float tensor (3, h, w), or None for what came with the weights."
        )
    return encoder.with_preprocess(against)


def _in_both(a: Embeddings, b: Embeddings) -> tuple[Embeddings, Embeddings]:
    """Return the vectors of the images that have one in both, in one order."""
    if len(a.failures) == len(b.failures) == 0:
        return a, b
    common = a.frame.index.intersection(b.frame.index, sort=False)
    rows = [e.frame.index.get_indexer(common) for e in (a, b)]
    first, second = (Embeddings(e.vectors[r], e.frame.iloc[r]) for e, r in zip((a, b), rows, strict=True))
    return first, second


def _overlap(a: "NDArray[np.int32]", b: "NDArray[np.int32]") -> "NDArray[np.int64]":
    """Return how many numbers each row of a shares with the same row of b, (n,)."""
    keys = [rows.astype(np.int64) + np.arange(len(rows))[:, None] * len(rows) for rows in (a, b)]
    return np.isin(keys[0], keys[1]).sum(axis=1)


def _known(*values: str) -> bool:
    return not any(value.startswith("not known") for value in values)


def _own(a: Embeddings, b: Embeddings) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Return, image by image, the cosine of its two vectors, and whether none of b is nearer to its vector of a."""
    n = len(a)
    if a.vectors.shape != b.vectors.shape:
        return np.full(n, np.nan), np.full(n, np.nan)
    cosines = np.empty(n)
    for start in range(0, n, _BLOCK):
        x, y = (e.vectors[start : start + _BLOCK].astype(np.float64) for e in (a, b))
        both = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
        cosines[start : start + _BLOCK] = (x * y).sum(axis=1) / np.where(both > 0, both, 1)
    rows, scores = nearest_rows(b).search(a.vectors, 1)
    # A copy of the image in the set is as near as the image itself, and may come first.
    found = (rows[:, 0] == np.arange(n)) | (cosines >= scores[:, 0] - 1e-12)
    return cosines.clip(-1, 1), found.astype(np.float64)


def _interval(hits: "NDArray[np.int64]", k: int, seed: int) -> tuple[float, float]:
    """Return the 95% interval of the mean share over images drawn again with replacement."""
    n, counts = len(hits), np.bincount(hits, minlength=k + 1)
    # Shares take k + 1 values, so drawing n images is drawing how often each value comes: it costs the same for any n.
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, size=_RESAMPLES)
    low, high = np.quantile(drawn @ np.arange(k + 1) / (k * n), [0.025, 0.975])
    return float(low), float(high)


def _said(encoder: Encoder, name: str) -> dict[str, str]:
    size = " x ".join(map(str, encoder.input_shape))
    return {"preprocess": name, **described(encoder.input.function), "input": size}


def _count(value: Any, name: str, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} is {value!r}; expected a whole number of {what}, 1 or more.")
    return int(value)
