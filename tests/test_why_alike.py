"""The page on evidence: it runs top to bottom, and what it says comes out."""

import numpy as np
import pytest
from test_notebooks import figures, numbers, printed, run

import vizkit as vk

pytestmark = pytest.mark.timeout(1500)  # seconds, on a busy machine; about two minutes on two idle cores


@pytest.fixture(scope="module")
def page(tmp_path_factory, own_cache_folder):
    told = """
import json

def told(frame):
    return {str(k): {str(c): str(v) for c, v in row.items()} for k, row in frame.to_dict("index").items()}

print(json.dumps({
    "query": query, "neighbors": found["id"].tolist(), "similarity": found["similarity"].tolist(),
    "drawn": {name: [float(c[alike].mean()), float(c[~alike].mean())] for name, c in drawn_pairs.items()},
    "sum": [float(why.map_a.sum()), float(why.map_b.sum()), why.similarity],
    "shares": {name: float(np.mean(values)) for name, values in shares.items()},
    "methods": {name: [float(v) for v in row[1:]] for name, row in rows.items()},
    "verdicts": {name: b.verdict for name, b in given.items()},
    "energy": {name: list(b.gain("energy", "area share")) for name, b in given.items()},
    "default": [default.title, default.trust],
    "split": {name: [float(((s[:, 0] > 0) & (s[:, 1] < 0)).mean()), float((s[:, 0] > s[:, 1]).mean())]
              for name, s in split.items()},
    "after": {" | ".join(key): float(text.split()[0]) for key, text in after.items()},
    "matched": matched.carried.loc["shown"].to_dict(),
}))
"""
    return run("04_why_alike.ipynb", tmp_path_factory.mktemp("why"), told)


def test_the_neighbors_are_those_of_brute_force_and_centering_takes_off_what_all_share(page):
    _, said = page
    images = vk.scenes("held-out").subset(range(600))
    vectors = vk.embed(images, vk.Encoder("scenes"), progress=False).vectors.astype(float)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    row = images.row(said["query"])
    cosine = units @ units[row]
    cosine[row] = -1
    assert said["neighbors"] == [images.ids[i] for i in np.argsort(-cosine)[:8]]
    assert set(images.frame.loc[said["neighbors"], "shape"]) == {images.frame["shape"].iloc[row]}
    centered = vectors - vectors.mean(axis=0)
    a, b = centered[row], centered[images.row(said["neighbors"][0])]
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert said["sum"] == pytest.approx([expected] * 3, abs=1e-5)
    one, two = said["drawn"]["cosine"]
    assert one > 0.9 > two > 0.4
    one, two = said["drawn"]["centered cosine"]
    assert one > 0.85
    assert -0.2 < two < 0


def test_the_split_lies_on_the_object_more_than_by_chance_and_less_than_half(page):
    _, said = page
    share = said["shares"]
    trained, untrained = (share[f"centered cosine, {name}"] for name in ("trained", "random weights"))
    assert 2.5 * share["area of the object"] < trained < 0.5
    assert trained > untrained + 0.1


def test_the_badge_is_green_for_the_exact_split_and_red_for_what_knows_nothing(page):
    _, said = page
    assert said["verdicts"]["contribution"] == "green"
    assert said["verdicts"]["middle"] == said["verdicts"]["contribution, random weights"] == "red"
    assert said["energy"]["contribution"][1] > 0.15
    assert said["default"][1].startswith("green")


def test_sums_are_what_the_page_says(page):
    _, said = page
    total, _, rest, *_ = said["methods"]["Contribution (exact)"]
    assert total == pytest.approx(said["sum"][2], abs=1e-5)
    assert rest == pytest.approx(0, abs=1e-5)
    (sensitivity,) = (row for name, row in said["methods"].items() if name.startswith("Sensitivity"))
    assert abs(sensitivity[0]) < 0.1
    total, start, rest, *_ = said["methods"]["Integrated gradients"]
    assert total + start + rest == pytest.approx(said["sum"][2], abs=1e-3)


def test_contrast_has_the_right_sign_and_the_control_shows_what_that_proves(page):
    _, said = page
    (both, order), (by_random, order_by_random) = (said["split"][name] for name in ("trained", "random weights"))
    assert both > by_random + 0.1
    assert both > 0.7
    assert min(order, order_by_random) > 0.95


def test_only_another_shape_takes_the_similarity_away(page):
    _, said = page
    after = said["after"]
    for change in ("nothing", "all hues", "kind of ground", "texture of the object"):
        assert after[f"trained | {change}"] > 0.85
    assert after["trained | shape of the object"] < 0.15
    assert after["random weights | shape of the object"] > after["random weights | all hues"]


def test_the_strongest_matches_carry_little_and_more_than_chance(page):
    _, said = page
    matched = said["matched"]
    assert matched["pairs"] == 5
    assert matched["high"] < matched["share"] < 0.1


def test_every_map_on_the_page_is_on_the_scale_of_its_figure(page):
    cells, _ = page
    drawn = figures(cells)
    assert len(drawn) == 7
    maps = 0
    for figure in drawn:
        axis = figure["layout"].get("coloraxis")
        for trace in figure["data"]:
            if trace["type"] == "heatmap":
                maps += 1
                values = numbers(trace["z"]) if isinstance(trace["z"], dict) else np.asarray(trace["z"], float)
                assert np.abs(values).max() <= axis["cmax"] * (1 + 1e-6)
    assert maps == 2 + 16 + 2 + 2 + 3 + 3
    assert "Error" not in printed(cells)
