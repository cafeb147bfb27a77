"""Notebooks run from top to bottom; the second: what it says about its figures is so. Others have their own files."""

import base64
import json
import os
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import vizkit as vk

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
LAYERS = ["relu", "layer1", "layer2", "layer3", "layer4.0", "layer4"]
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
        cell.source = re.sub(
            r'vk\.scenes\("held-out"\)(\.subset\(range\(\d+\)\))?',
            f'vk.scenes("held-out").subset(range({scenes}))',
            cell.source,
        )
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
def layers_page(tmp_path_factory, own_cache_folder):
    told = (
        'import json; print(json.dumps({" | ".join(key): values[0] for key, values in {**measured, **short}.items()}))'
    )
    return run("02_layers.ipynb", tmp_path_factory.mktemp("layers"), told)


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
