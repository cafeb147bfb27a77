"""The sixth notebook: it runs from top to bottom, and what it says about its figures is so."""

import pytest
from test_notebooks import run

pytestmark = pytest.mark.timeout(1500)  # seconds, on a busy machine


@pytest.fixture(scope="module")
def maps_page(tmp_path_factory, own_cache_folder):
    told = """
import json
shares = {" | ".join(key): float((values > 95).mean()) for key, values in unusual.items()}
said = {
    "measured": {name: found.overall["value"].to_dict() for name, found in checks.items()},
    "chance": checks["UMAP"].overall["chance"].to_dict(),
    "listed": graph.occurrences.tolist(),
    "worst": [worst, found.worst.index[0], about["kind"].value_counts().to_dict()],
    "seeds": seeds.overall["value"].to_dict(), "layers": layers.overall["value"].to_dict(),
    "moved": moved["true_change"].to_dict(),
    "changed": dict(zip(changed, placed.frame["unusualness"].tolist(), strict=True)),
    "nearest": dict(zip(changed, placed.frame["nearest"], strict=True)),
    "apart": dict(zip(changed, np.hypot(*(placed.xy - placed.xy[0]).T).tolist(), strict=True)),
    "width": float(np.ptp(layout.xy, axis=0).max()), "shares": shares,
    "panel": panel.wait(600) and panel.layout_of_points.summary == layout.summary,
}
print(json.dumps(said))
"""
    return run("06_maps.ipynb", tmp_path_factory.mktemp("maps"), told)


def test_the_map_keeps_half_of_the_neighbors_and_a_shuffled_one_what_chance_keeps(maps_page):
    _, said = maps_page
    umap, pca, shuffled = (said["measured"][name] for name in ("UMAP", "PCA", "UMAP, shuffled"))
    assert 0.4 < umap["kept"] < 0.65
    assert umap["trustworthiness"] > 0.97
    assert umap["kept"] > pca["kept"] + 0.2
    assert said["chance"]["kept"] == pytest.approx(15 / 1799)
    assert shuffled["kept"] == pytest.approx(15 / 1799, abs=0.003)
    assert [shuffled["trustworthiness"], shuffled["continuity"]] == pytest.approx([0.5, 0.5], abs=0.02)
    assert sum(said["listed"]) == 15 * 1800
    worst, again, kinds = said["worst"]
    assert worst == again
    assert kinds["false"] == kinds["missing"] >= 5


def test_two_seeds_agree_more_than_either_does_with_the_truth(maps_page):
    _, said = maps_page
    assert 0.65 < said["seeds"]["map_agreement"] < 0.85
    assert said["seeds"]["map_agreement"] > said["measured"]["UMAP"]["kept"] + 0.1
    assert said["seeds"]["true_agreement"] == 1
    assert said["layers"]["true_agreement"] < 0.7
    assert said["layers"]["drift"] < said["seeds"]["drift"]
    assert min(said["moved"], key=said["moved"].get) == "bolt"


def test_elsewhere_and_unusual_are_two_things(maps_page):
    _, said = maps_page
    same, hue, shape, *_ = said["changed"]
    assert said["nearest"][same] == said["nearest"][hue]
    assert said["changed"][hue] < 60
    assert said["apart"][hue] < 0.1 * said["width"]
    assert said["apart"][shape] > 0.2 * said["width"]
    assert min(said["changed"]["in gray"], said["changed"]["noise"]) > 95


def test_only_the_trained_network_finds_scenes_without_shapes_unusual(maps_page):
    _, said = maps_page
    share = said["shares"]
    for source in ("trained", "random weights", "raw pixels"):
        assert share[f"{source} | as they are"] == pytest.approx(0.05, abs=0.05)
        assert share[f"{source} | noise"] > 0.9
    for kind in ("in gray", "tiles shuffled"):
        others = max(share[f"{source} | {kind}"] for source in ("random weights", "raw pixels"))
        assert share[f"trained | {kind}"] > 0.9 > others + 0.6
    assert share["raw pixels | in gray"] < share["raw pixels | as they are"]


def test_the_panel_of_the_page_stands_on_the_same_map(maps_page):
    _, said = maps_page
    assert said["panel"]
