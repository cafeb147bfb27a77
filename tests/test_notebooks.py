"""The second, third and sixth notebook: they run from top to bottom, and what they say about their figures is so."""

import base64
import json
import os
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import vizkit as vk

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
LAYERS = ["relu", "layer1", "layer2", "layer3", "layer4.0", "layer4"]
DIMENSIONS = {  # as the papers and torchvision's documentation have them
    "vgg11": 4096, "resnet18": 512, "googlenet": 1024, "efficientnet_b0": 1280, "mobilenet_v2": 1280,
    "densenet121": 1024,
}  # fmt: skip

pytestmark = pytest.mark.timeout(1500)  # seconds, on a busy machine; about two minutes each on two idle cores


def run(name, folder, extra, *, scenes=None, **variables):
    """Run a copy of a notebook, then an extra cell; return its cells and what the extra cell printed, as JSON.

    With `scenes`, the copy takes only so many of them: for a claim that is not about the scenes.
    """
    # A proxy that is not there: whatever wants to download fails.
    nowhere = {key: "http://127.0.0.1:9" for key in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("VIZKIT_")}
    env = inherited | nowhere | {"TORCH_HOME": str(folder / "torch")} | variables
    notebook = nbformat.read(NOTEBOOKS / name, 4)
    if scenes is not None:
        (cell,) = [cell for cell in notebook.cells if 'images = vk.scenes("held-out")' in cell.source]
        cell.source = cell.source.replace('vk.scenes("held-out")', f'vk.scenes("held-out").subset(range({scenes}))')
    notebook.cells.append(nbformat.v4.new_code_cell(extra))
    client = NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}})
    client.execute(env=env)
    return notebook.cells[:-1], json.loads(printed(notebook.cells[-1:]))


def printed(cells):
    texts = (o.text for c in cells for o in c.get("outputs", []) if o.output_type == "stream" and o.name == "stdout")
    return "".join(texts)


def numbers(values):
    """Return an array out of a figure, where plotly may have packed it."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"])
    return np.asarray(values, float)


def figures(cells):
    data = (output.get("data", {}) for cell in cells for output in cell.get("outputs", []))
    return [d["application/vnd.plotly.v1+json"] for d in data if "application/vnd.plotly.v1+json" in d]


@pytest.fixture(scope="module")
def clothing(shared, tmp_path_factory):
    """Give a folder of twenty photos a class, the subfolders being the labels."""
    folder = tmp_path_factory.mktemp("clothing")
    for label in sorted(path for path in (shared / "images/clothing10").iterdir() if path.is_dir()):
        (folder / label.name).mkdir()
        for photo in sorted(label.iterdir())[:20]:
            shutil.copy(photo, folder / label.name)
    return folder


@pytest.fixture(scope="module")
def layers_page(tmp_path_factory, own_cache_folder):
    told = (
        'import json; print(json.dumps({" | ".join(key): values[0] for key, values in {**measured, **short}.items()}))'
    )
    return run("02_layers.ipynb", tmp_path_factory.mktemp("layers"), told)


@pytest.fixture(scope="module")
def models_page(tmp_path_factory, own_cache_folder):
    folder = tmp_path_factory.mktemp("models")
    told = """
import json
rows = [[r.network, r.of, r["share of 10 neighbors"]] for _, r in purities.iterrows()]
vectors = {"resnet18": known["resnet18"].vectors.tolist(), "raw pixels": np.stack(small).tolist()}
print(json.dumps({"rows": rows, "vectors": vectors, "label": label.tolist(), "costs": costs.astype(str).to_dict()}))
"""
    cells, said = run("03_models.ipynb", folder, told)
    return cells, said, folder


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


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not any(cell.outputs or cell.execution_count is not None or cell.metadata for cell in code)


def test_shape_rises_to_what_the_network_itself_answers_and_only_by_training(layers_page):
    _, score = layers_page
    encoder, images = vk.Encoder("scenes"), vk.scenes("held-out")
    vectors = vk.embed(images, encoder, layers=["layer4"], progress=False)["layer4"].vectors  # as the page has them
    logits = vectors @ encoder.module.fc.weight.detach().numpy().T + encoder.module.fc.bias.detach().numpy()
    classes = sorted(images.frame["shape"].unique())
    own = np.mean(np.array(classes)[logits.argmax(axis=1)] == images.frame["shape"])
    last = score["trained | layer4 | shape of the object"]
    assert last == pytest.approx(own, abs=0.01)
    others = ("random weights | layer4", "raw pixels | 32 x 32", "chance | layer4", "trained | relu")
    assert max(score[f"{other} | shape of the object"] for other in others) < 0.15
    assert np.all(np.diff([score[f"trained | {layer} | shape of the object"] for layer in LAYERS]) > -0.01)


def test_color_falls_with_depth_and_its_r2_is_that_of_least_squares(layers_page):
    _, score = layers_page
    images = vk.scenes("held-out")
    known = vk.embed(images, vk.Encoder("scenes"), layers=LAYERS, progress=False)
    color = np.stack([np.asarray(image, float).mean(axis=(0, 1)) for image in images])
    half = np.random.default_rng(7).permutation(len(images)) < 1000  # not the notebook's halves
    falling = []
    for layer in LAYERS:
        columns = np.c_[known[layer].vectors.astype(float), np.ones(len(images))]
        line = np.linalg.lstsq(columns[half], color[half], rcond=None)[0]
        error = ((color - columns @ line)[~half] ** 2).sum(axis=0)
        r2 = np.mean(1 - error / ((color[~half] - color[~half].mean(axis=0)) ** 2).sum(axis=0))
        falling.append(score[f"trained | {layer} | mean color of the picture"])
        assert falling[-1] == pytest.approx(r2, abs=0.06)
    assert np.all(np.diff(falling) < 0)
    assert falling[-1] < score["random weights | layer4 | mean color of the picture"] - 0.3
    # The ground's hue falls as well; that of the object is highest in the middle, and above random weights there.
    assert score["trained | layer4 | hue of the ground"] < score["trained | relu | hue of the ground"] - 0.3
    hue = [score[f"trained | {layer} | hue of the object"] for layer in LAYERS]
    assert max(hue) > max(hue[0], hue[-1]) + 0.1
    assert max(hue) > max(score[f"random weights | {layer} | hue of the object"] for layer in LAYERS) + 0.1
    # Cut to 16 components, shape stays and color goes.
    assert score["16 components | layer4 | shape of the object"] > 0.95
    assert score["16 components | layer4 | mean color of the picture"] < 0.1 < falling[-1]


def test_texture_is_at_chance_at_every_depth_though_a_spectrum_reads_it(layers_page):
    _, score = layers_page
    assert score["spectrum | gray | texture of the ground"] > 0.5
    for name in ("texture of the ground", "texture of the object"):
        assert all(abs(score[f"trained | {layer} | {name}"] - 1 / 6) < 0.05 for layer in LAYERS)


def test_the_profile_draws_the_scores_with_their_intervals(layers_page):
    cells, score = layers_page
    profile = figures(cells)[1]
    titles = [note["text"] for note in profile["layout"]["annotations"]]
    for name in ("mean color of the picture", "shape of the object"):
        axis = f"x{titles.index(name) + 1}".removesuffix("1")
        for source in ("trained", "random weights"):
            (line,) = [t for t in profile["data"] if t["name"] == source and t.get("xaxis", "x") == axis]
            np.testing.assert_allclose(numbers(line["y"]), [score[f"{source} | {layer} | {name}"] for layer in LAYERS])
            assert np.all(numbers(line["error_y"]["array"]) >= 0)
            assert np.all(numbers(line["error_y"]["arrayminus"]) >= 0)


def test_without_photos_the_last_cells_say_that_they_are_skipped(layers_page):
    cells, _ = layers_page
    assert "Skipped: no photos are named" in printed(cells)
    assert len(figures(cells)) == 2


def test_on_photos_color_falls_and_the_label_rises(shared, clothing, tmp_path, own_cache_folder):
    (weights,) = (shared / "torch/converted").glob("mobilenet_v2*.pth")
    told = 'import json; print(json.dumps({" | ".join(key): values[0] for key, values in theirs_measured.items()}))'
    named = {"VIZKIT_PHOTOS": str(clothing), "VIZKIT_WEIGHTS": str(weights)}
    cells, score = run("02_layers.ipynb", tmp_path, told, scenes=200, **named)
    depth = [key.split(" | ")[1] for key in score if key.startswith("trained") and key.endswith("label")]
    assert len(depth) == 6
    color = [score[f"trained | {layer} | mean color of what the network saw"] for layer in depth]
    label = [score[f"trained | {layer} | label"] for layer in depth]
    assert color[0] > color[-1] + 0.3
    others = [score[f"random weights | {depth[-1]} | label"], score["raw pixels | 32 x 32 | label"]]
    assert label[-1] > max(label[0], *others) + 0.2
    assert len(figures(cells)) == 4
    assert "Skipped" not in printed(cells)


def test_the_families_come_with_random_weights_and_the_tables_say_so(models_page):
    cells, said, folder = models_page
    costs = said["costs"]
    assert all(costs["weights"][name].startswith("random, seed 0") for name in DIMENSIONS)
    assert {name: int(number) for name, number in costs["dimensions"].items()} == DIMENSIONS
    assert "trained: none" in printed(cells)
    assert {of for _, of, _ in said["rows"]} == {"random weights", "raw pixels", "shuffled labels"}
    assert not list(folder.rglob("*.pth"))
    parameters = {name: float(number) for name, number in costs["parameters, millions"].items()}
    # From torchvision's documentation, in millions; GoogLeNet without its auxiliary heads.
    documented = {"vgg11": 132.9, "resnet18": 11.7, "googlenet": 6.6, "efficientnet_b0": 5.3, "mobilenet_v2": 3.5}
    assert {name: parameters[name] for name in documented} == pytest.approx(documented, abs=0.05)


def test_the_shares_of_neighbors_are_those_of_brute_force(models_page):
    _, said, _ = models_page
    label = np.array(said["label"])
    shares = {(name, of): share for name, of, share in said["rows"]}
    for name, of in (("resnet18", "random weights"), ("raw pixels", "raw pixels")):
        vectors = np.array(said["vectors"][name])
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosine = unit @ unit.T
        np.fill_diagonal(cosine, -np.inf)
        near = np.argsort(-cosine, axis=1)[:, :10]
        key = ("resnet18", of)
        assert shares[key] == pytest.approx((label[near] == label[:, None]).mean(), abs=1e-3)


def test_weights_in_torchvisions_cache_are_used_and_said(shared, clothing, tmp_path, own_cache_folder):
    (weights,) = (shared / "torch/converted").glob("squeezenet1_0*.pth")
    checkpoints = tmp_path / "torch/hub/checkpoints"
    checkpoints.mkdir(parents=True)
    shutil.copy(weights, checkpoints / "squeezenet1_0-b66bff10.pth")
    told = """
import json
print(json.dumps([[r.network, r.of, r["share of 10 neighbors"], r["plus or minus"]] for _, r in purities.iterrows()]))
"""
    named = {"VIZKIT_PHOTOS": str(clothing), "VIZKIT_FAMILIES": "squeezenet1_0 resnet18"}
    cells, rows = run("03_models.ipynb", tmp_path, told, **named)
    assert "trained: squeezenet1_0\nrandom weights: resnet18" in printed(cells)
    share = {(name, of): (mean, error) for name, of, mean, error in rows}
    trained, error = share["squeezenet1_0", "trained"]
    assert trained - error > share["squeezenet1_0", "raw pixels"][0] > share["squeezenet1_0", "shuffled labels"][0]
    assert trained - error > share["squeezenet1_0", "random weights"][0]
    assert ("resnet18", "trained") not in share


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
