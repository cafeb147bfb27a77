"""Matches against loops written out, closed forms, and patches that were put there."""

import numpy as np
import pytest
from PIL import Image

import vizkit as vk
from vizkit.errors import InputError, MethodNotApplicableError
from vizkit.figures import Panel
from vizkit.saliency import matches
from vizkit.saliency.matches import mutual_matches


def panels(*shapes):
    return [Panel(name, np.zeros((24, 24, 3), np.uint8), np.zeros(s, np.float32)) for name, s in zip("ab", shapes)]  # noqa: B905


def random_patches(*counts, d=6, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal((d, n)).astype(np.float32) for n in counts)


@pytest.mark.parametrize("block", [1 << 24, 40])
def test_matches_are_those_of_two_loops(block, monkeypatch):
    """Patch by patch, in blocks of two rows as in one."""
    monkeypatch.setattr(matches, "_BLOCK", block)
    a, b = random_patches(12, 20)
    found = mutual_matches((a, b), panels((3, 4), (4, 5)), 100)
    cosine = [[float(p @ q / np.linalg.norm(p) / np.linalg.norm(q)) for q in b.T] for p in a.T]
    pairs = []
    for i in range(12):
        j = max(range(20), key=lambda j: cosine[i][j])
        if max(range(12), key=lambda i: cosine[i][j]) == i:
            pairs.append((float(a[:, i] @ b[:, j]), i // 4, i % 4, j // 5, j % 5, cosine[i][j]))
    pairs.sort(reverse=True)
    assert len(pairs) > 3
    columns = ["carried", "row_a", "column_a", "row_b", "column_b", "similarity"]
    np.testing.assert_allclose(found.frame[columns].to_numpy(float), pairs, atol=1e-5)
    assert list(found.frame.index) == list(range(1, len(pairs) + 1))
    assert found.similarity == pytest.approx(float(a.sum(1) @ b.sum(1)), rel=1e-4)
    assert found.carried.loc["all", "carried"] == pytest.approx(sum(pair[0] for pair in pairs), rel=1e-4)


def test_patches_that_have_one_copy_each_carry_all_of_the_cosine_and_shuffled_ones_do_not():
    rng = np.random.default_rng(0)
    where = rng.permutation(16)
    a = np.eye(16, dtype=np.float32) / 4  # 16 patches, nothing in common; the vectors have length 1
    found = mutual_matches((a, a[:, where]), panels((4, 4), (4, 4)), 3)
    assert found.similarity == pytest.approx(1)
    assert found.carried["share"].to_dict() == pytest.approx({"shown": 3 / 16, "all": 1})
    assert found.carried["pairs"].to_dict() == {"shown": 3, "all": 16}
    assert found.carried["even"].to_dict() == pytest.approx({"shown": 3 / 256, "all": 16 / 256})
    for row in found.frame.itertuples():
        assert where[row.row_b * 4 + row.column_b] == row.row_a * 4 + row.column_a
    # A channel finds its own place in the other image only by luck: once in 16.
    every = found.carried.loc["all"]
    assert every["low"] <= every["chance"] <= every["high"] < 0.8
    assert found.carried.equals(mutual_matches((a, a[:, where]), panels((4, 4), (4, 4)), 3).carried)
    other = mutual_matches((a, a[:, where]), panels((4, 4), (4, 4)), 3, seed=1)
    assert not found.carried["chance"].equals(other.carried["chance"])
    assert found.frame.equals(other.frame)


def test_equal_patches_carry_what_an_even_spread_and_chance_carry():
    a = np.full((3, 4), 0.25 / np.sqrt(3), np.float32)
    every = mutual_matches((a, a), panels((2, 2), (2, 2))).carried.loc["all"]
    assert every["share"] == pytest.approx(every["even"])
    assert every["share"] == pytest.approx(every["chance"])


def test_the_figure_says_who_made_the_pairs_and_where_they_are_no_more_than_chance():
    encoder, images = vk.Encoder("scenes"), vk.scenes("held-out")
    found = vk.explain_pair(encoder, images[0], images[1], "contribution").matches()
    shown, every = found.carried.loc["shown"], found.carried.loc["all"]
    assert "Contribution (exact), scenes, trust: not measured" in found.headline
    assert f"carry {shown['carried']:.3f} of the cosine" in found.headline
    assert "Layer input:fc" in found.note
    assert ("no more than shuffled" in found.headline) == (every["share"] <= every["high"])
    a = np.full((3, 4), 0.25 / np.sqrt(3), np.float32)
    assert "carry no more than shuffled patches do" in mutual_matches((a, a), panels((2, 2), (2, 2))).headline
    a = np.eye(16, dtype=np.float32) / 4
    assert "no more" not in mutual_matches((a, a), panels((4, 4), (4, 4))).headline


def test_patches_of_zeros_match_nothing():
    a, b = random_patches(9, 9)
    a[:, 4] = b[:, 2] = 0
    frame = mutual_matches((a, b), panels((3, 3), (3, 3)), 9).frame
    assert len(frame)
    assert not ((frame["row_a"] == 1) & (frame["column_a"] == 1)).any()
    assert not ((frame["row_b"] == 0) & (frame["column_b"] == 2)).any()
    nothing = mutual_matches((0 * a, 0 * b), panels((3, 3), (3, 3)))
    assert (len(nothing.frame), nothing.similarity) == (0, 0)
    nothing.figure()


def test_a_cosine_that_is_not_above_zero_has_no_share():
    a, _ = random_patches(9, 9)
    found = mutual_matches((a, -a), panels((3, 3), (3, 3)))
    assert found.similarity < 0
    assert found.carried["share"].isna().all()
    assert "%" not in found.headline + found.note
    assert np.isfinite(found.carried["carried"]).all()


@pytest.mark.parametrize("n", [0, -1, 2.0, True, "5"])
def test_a_number_of_matches_that_is_none_is_refused(n):
    with pytest.raises(InputError, match="expected a whole number of matches, 1 or more"):
        mutual_matches(random_patches(4, 4), panels((2, 2), (2, 2)), n)


@pytest.mark.parametrize("seed", [-1, 1.0, True, "0", None])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(InputError, match=r"seed is .*; expected a whole number, 0 or more"):
        mutual_matches(random_patches(4, 4), panels((2, 2), (2, 2)), seed=seed)


def test_a_planted_patch_matches_its_copy():
    """An object with its surroundings, put into two other scenes on whole cells: its patches match three cells off."""
    images, encoder = vk.scenes("held-out"), vk.Encoder("scenes")
    inside = exact = 0
    for row in range(0, 18, 3):
        top, left = (int(np.clip(at.mean() - 16, 0, 32)) for at in np.nonzero(np.asarray(images.mask(row))))
        part = np.asarray(images[row])[top : top + 32, left : left + 32]
        a, b = (np.asarray(images[row + i]).copy() for i in (1, 2))
        a[:32, 8:40] = b[24:56, 32:64] = part
        why = vk.explain_pair(encoder, Image.fromarray(a), Image.fromarray(b), "contribution")
        frame = why.matches(100).frame
        own = frame[frame["row_a"].between(0, 3) & frame["column_a"].between(1, 4)]
        inside += len(own)
        exact += ((own["row_b"] - own["row_a"] == 3) & (own["column_b"] - own["column_a"] == 3)).sum()
    assert inside > 20
    assert exact / inside > 0.6  # chance: one cell in 64


def test_only_the_exact_split_has_patches_to_match():
    encoder, images = vk.Encoder("scenes"), vk.scenes("held-out")
    why = vk.explain_pair(encoder, images[0], images[1], "gradcam")
    with pytest.raises(MethodNotApplicableError, match="Use method='contribution'"):
        why.matches()
