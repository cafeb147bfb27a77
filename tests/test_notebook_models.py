"""The third notebook: it runs from top to bottom, and what it says about its figures is so."""

import shutil

import numpy as np
import pytest
from test_notebooks import printed, run

DIMENSIONS = {  # as the papers and torchvision's documentation have them
    "vgg11": 4096, "resnet18": 512, "googlenet": 1024, "efficientnet_b0": 1280, "mobilenet_v2": 1280,
    "densenet121": 1024,
}  # fmt: skip

pytestmark = pytest.mark.timeout(1500)  # seconds, on a busy machine


@pytest.fixture(scope="module")
def models_page(tmp_path_factory, own_cache_folder):
    folder = tmp_path_factory.mktemp("models")
    told = """
import json
rows = [[r.network, r.of, r["share of 10 neighbors"]] for _, r in purities.iterrows()]
vectors = {"resnet18": known["resnet18"].vectors.tolist(), "raw pixels": np.stack(small).tolist()}
print(json.dumps({"rows": rows, "vectors": vectors, "label": label.tolist(), "costs": costs.astype(str).to_dict()}))
"""
    cells, said = run("03_models.ipynb", folder, told, scenes=60)
    return cells, said, folder


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
