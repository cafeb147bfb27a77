"""The questions: what one image's number rests on, why two images are alike, and why one is nearer than another."""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..encoders import Encoder
from ..errors import InputError
from .answering import CHOSEN, Pairs, check_encoder, choose, kind_of, map_of, name_of, panel, several, trusted, words_of
from .evidence import NOT_MEASURED, ContrastEvidence, ImageEvidence, PairEvidence, PairEvidences
from .methods import Given, layer_of, method_of
from .spatial import see
from .targets import (
    aim,
    center_of,
    class_index,
    class_target,
    direction_target,
    number,
    offset_of,
    units_of,
    vector_target,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..embeddings import Embeddings
    from .spatial import Picture
    from .targets import Center


def explain(
    encoder: Encoder,
    image: "Picture",
    *,
    target: "int | NDArray[Any] | Tensor | Embeddings",
    method: Given | None = None,
    center: "Center | None" = None,
) -> ImageEvidence:
    """Show what in one image a class score, or the similarity to a vector, rests on.

    Parameters
    ----------
    encoder
        The network.
    image
        PIL image, path, or array (h, w, 3) uint8 or float in [0, 1].
    target
        A class index into the network's own output, whatever the encoder's layer is. A vector (d,): then the cosine to
        it is explained. Several vectors (m, d), or Embeddings, such as those of a cluster: then the cosine to their
        mean, the cluster's center.
    method
        As for `explain_pair`, but None is "gradcam"; "contribution" and "sensitivity" explain cosines only. For a
        class Grad-CAM reads the last feature map of the whole network, for a vector the last one up to the vector.
    center
        As for `explain_pair`, for a target that is a vector.

    Returns
    -------
    ImageEvidence

    Raises
    ------
    InputError
        Unknown method, impossible target, or a center for a class score.
    MethodNotApplicableError
        The method would be wrong on this network.
    """
    check_encoder(encoder)
    why = CHOSEN if method is not None else "the default for one image"
    method = "gradcam" if method is None else method
    method_of(method)  # raises for one that is not known, before anything runs
    start = time.perf_counter()
    mean = center_of(center, encoder)
    (seen,) = see(encoder, [image])
    x = seen.x[None]
    index = class_index(target)
    if index is not None:
        if mean is not None:
            raise InputError(f"center= goes with a vector as target; target={index} is a class, whose score has none.")
        what, kind = class_target(encoder, x, index), "logit"
        reason, trust = why, NOT_MEASURED  # badges are measured on similarities
    else:
        vector, name = aim(target, encoder)
        what, kind = vector_target(encoder, vector, mean, name=name), kind_of(mean)
        reason, trust = trusted(encoder, method, mean, why)
    found = map_of(encoder, what, seen, method, progress=True)
    value = number(what, x)
    words = words_of(encoder, method, what.unit, mean)
    if index is not None:
        words["title"] = words["title"].replace(", norm held", "")  # a score has no norm
    return ImageEvidence(
        panels=(panel("", seen, found, value),),
        value=value,
        kind=kind,
        target=what.name,
        layer=layer_of(method, what),
        reason=reason,
        trust=trust,
        **words,
        seconds=time.perf_counter() - start,
    )


def explain_pair(
    encoder: Encoder, a: "Picture", b: "Picture", method: Given | None = None, *, center: "Center | None" = None
) -> PairEvidence:
    """Show, on both images, what makes the network call them alike.

    Parameters
    ----------
    encoder
        The network.
    a, b
        PIL images, paths, or arrays (h, w, 3) uint8 or float in [0, 1]; or what vizkit.saliency.spatial.see gave for
        them, which needs no further pass.
    method
        "contribution": the exact split. Where the vector z is the mean of a feature map over its positions, the cosine
        is a sum over patches i of a and j of b, <A_i, B_j> / (hw h'w' |z_a| |z_b|) (Stylianou et al. 2019 and Zhu et
        al. 2021 draw the same sum). It adds up to the cosine and says where the cosine is made up, not what it depends
        on. Refused elsewhere.
        "occlusion": how much the true cosine drops when a window of 2 x 2 cells on an 8 x 8 grid is painted in the
        image's mean color, averaged over the windows that cover a cell (Zeiler and Fergus 2014).
        It says what the cosine depends on.
        "multiscale_occlusion": what windows of 2 x 2 and of 4 x 4 cells agree on, for one and a half times the passes.
        `Occlusion(window=..., grid=...)`, `MultiscaleOcclusion(windows=..., grid=...)` and
        `IntegratedGradients(steps=...)` of vizkit.saliency.methods stand for these with other numbers.
        "gradcam": Captum's LayerGradCam (Selvaraju et al. 2017, eq. 1 and 2, without the final ReLU, so that evidence
        against stays visible) at the last feature map, with |z| held constant in the gradient; it equals contribution
        only where the averaged map is a module's output and there is no center. In DenseNet it is not: its last ReLU is
        a function, and Grad-CAM reads before it. A center is taken off the vector, not off the map: contribution splits
        the centered cosine, Grad-CAM does not.
        "sensitivity": the same with the plain cosine, whose gradient along z is zero: its map adds up to 0 where
        the map is averaged, and says where a change would turn the vector, not what makes the similarity up.
        "integrated_gradients" (Sundararajan et al. 2017), "saliency" (Simonyan et al. 2014), "deeplift" (Shrikumar et
        al. 2017), "guided_backprop" (Springenberg et al. 2015): from and to a plain image of the mean color where they
        need one; near chance on similarities as a rule, so measure them with `trust` first.
        A callable (f, x) -> (h, w): f gives the similarity (n,) to the other image of a preprocessed batch, x is the
        preprocessed image (1, 3, h, w); it is called once for each side.
        None: the best method that `trust` found green for this encoder and center in this session, else contribution
        where it is exact, else occlusion; `reason` says which and why, `trust` what was measured.
    center
        Explain the centered cosine: a mean vector (d,), or the Embeddings whose mean is taken off both vectors first.
        Random pairs have a raw cosine far above 0; the centered one is sharper and equally exact. Embeddings must be
        those of this encoder.

    Returns
    -------
    PairEvidence

    Raises
    ------
    InputError
        An image cannot be used, the method is unknown, a vector is zero, so that there is no cosine, or the center
        belongs to another encoder.
    MethodNotApplicableError
        The method would be wrong on this network.
    """
    return Pairs(encoder, a, [b], method, center, names=("a", "b")).last()[0]


def explain_many(
    encoder: Encoder,
    query: "Picture",
    others: "Iterable[Picture]",
    method: Given | None = None,
    *,
    center: "Center | None" = None,
) -> PairEvidences:
    """Explain the similarity of one query to each of several images; every image runs through the network once.

    Parameters and errors are those of `explain_pair`; the query is `a`. One PairEvidence for each of `others`, in
    order; together they draw themselves on one scale. What takes long shows a bar; `explaining` gives each pair as it
    comes.
    """
    others = several(others)
    names = ["query", *(name_of(image, row) for row, image in enumerate(others))]
    return PairEvidences(Pairs(encoder, query, others, method, center, names=names).last())


def explaining(
    encoder: Encoder,
    query: "Picture",
    others: "Iterable[Picture]",
    method: Given | None = None,
    *,
    center: "Center | None" = None,
) -> Iterator[PairEvidence]:
    """Explain as `explain_many` does, giving each pair as it comes, so that a slow method can be watched and left.

    Parameters and errors are those of `explain_pair`. Contribution gives all pairs at once, after one pass. Where no
    method is named, `trust` found a slower one green, and contribution is exact, every pair comes by contribution first
    and then, in the same order, by the slower method.

    Yields
    ------
    PairEvidence
        Its `row` is the position among `others`.
    """
    others = several(others)
    names = ["query", *(name_of(image, row) for row, image in enumerate(others))]
    # Not a generator itself: what is wrong is said at the call, not at the first pair.
    return Pairs(encoder, query, others, method, center, names=names).first_and_last()


def explain_contrast(
    encoder: Encoder,
    query: "Picture",
    near: "Picture",
    far: "Picture",
    method: Given | None = None,
    *,
    center: "Center | None" = None,
) -> ContrastEvidence:
    """Show why a query is nearer to one image than to another: what cos(query, near) - cos(query, far) rests on.

    Parameters
    ----------
    encoder
        The network.
    query, near, far
        PIL images, paths, or arrays (h, w, 3) uint8 or float in [0, 1]. Any image may be given as near; the difference
        is negative where it is the farther one.
    method, center
        As for `explain_pair`. Contribution splits the difference as exactly as it splits a cosine: on the query patch i
        gets <A_i, u_near - u_far> / (hw |z|), u being vectors of length 1.

    Returns
    -------
    ContrastEvidence
        In every panel positive speaks for near, negative for far. For methods that add up, the map on the query and its
        residual sum to the difference, that on near to cos(query, near), that on far to -cos(query, far); less the
        value on the baseline, where there is one.

    Raises
    ------
    InputError, MethodNotApplicableError
        As for `explain_pair`.
    """
    check_encoder(encoder)
    start = time.perf_counter()
    mean = center_of(center, encoder)
    seens = see(encoder, [query, near, far])
    units = units_of(encoder, [seen.vector for seen in seens], mean)
    method, reason, trust = choose(encoder, method, mean, seens)
    to_near, to_far = float(units[0] @ units[1]), float(units[0] @ units[2])
    offset = offset_of(encoder, mean)
    asked = (
        ("query", units[1] - units[2], to_near - to_far),
        ("near", units[0], to_near),
        ("far", -units[0], -to_far),
    )
    targets = [direction_target(encoder, d, offset, encoder.vectors, name=name) for name, d, _ in asked]
    maps = [map_of(encoder, t, seen, method, progress=True) for t, seen in zip(targets, seens, strict=True)]
    return ContrastEvidence(
        panels=tuple(
            panel(name, seen, found, value) for (name, _, value), seen, found in zip(asked, seens, maps, strict=True)
        ),
        value=to_near - to_far,
        kind="difference of cosines" if mean is None else "difference of centered cosines",
        target="query to near, less query to far",
        layer=layer_of(method, targets[0]),
        reason=reason,
        trust=trust,
        **words_of(encoder, method, targets[0].unit, mean),
        seconds=time.perf_counter() - start,
    )
