"""The command vizkit: it gives what the library gives, says what happened by its exit code, and can be stopped."""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from drawn import photo

import vizkit as vk
from vizkit import command, progress, stopping, usage
from vizkit.command import main, printable

REPO = Path(__file__).resolve().parents[1]
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")  # all but tab and newline; and those that turn text


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve photos in two classes."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(12):
        path = folder / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        photo(i).save(path)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def embed(photos, cache, tmp_path, capsys):
    """Run `vizkit embed`, on the photos with the embedded network; return code, stdout, stderr and the store."""

    def run(*options, folder=photos, out="out", model="scenes"):
        code = main(
            ["embed", str(folder), "--model", model, "--out", str(tmp_path / out), "--cache", str(cache), *options]
        )
        return code, *capsys.readouterr(), tmp_path / out

    return run


@pytest.fixture
def some_broken(photos, tmp_path):
    """Give a copy of the photos with seven files that are none; one has a name that would clear the terminal."""
    folder = shutil.copytree(photos, tmp_path / "some_broken")
    for name in ["a/\x1b[2J\n\u202egnp.jpg", *(f"b/none{i}.jpg" for i in range(5))]:
        (folder / name).write_bytes(b"no image")
    (folder / "b/empty.png").touch()
    return folder


# ---------------------------------------------------------------------- embed


def test_embed_writes_what_the_library_gives(embed, photos, tmp_path):
    code, out, _, store = embed()
    wanted = vk.embed(vk.ImageSet.from_folder(photos), vk.Encoder("scenes"), cache=tmp_path / "other", progress=False)
    found = vk.Embeddings.load(store, encoder=wanted.encoder)
    assert code == 0
    assert out == f"12 vectors of 128 dimensions in {store}\n"
    assert found.ids == wanted.ids
    assert list(found.frame["label"]) == list(wanted.frame["label"])
    np.testing.assert_array_equal(found.vectors, wanted.vectors)
    assert found.provenance["fingerprint"] == wanted.encoder.fingerprint


def test_pandas_opens_what_embed_writes(embed):
    *_, store = embed()
    table = pd.read_parquet(store)
    assert table["id"].tolist() == sorted(table["id"])
    np.testing.assert_array_equal(np.stack(table["vector"]), vk.Embeddings.load(store).vectors)


def test_the_options_are_those_of_the_encoder(embed):
    options = ["--layer", "layer3", "--pool", "gem", "--preprocess", "grayscale", "--seed", "3", "--batch-size", "5"]
    code, _, _, store = embed("--weights", "random", *options, "--device", "auto", "--dtype", "float32")
    made = {"weights": None, "layer": "layer3", "pool": "gem", "preprocess": "grayscale", "seed": 3, "device": "auto"}
    found = vk.Embeddings.load(store)
    assert code == 0
    assert found.provenance["fingerprint"] == vk.Encoder("scenes", **made).fingerprint
    assert found.provenance["fingerprint"] != vk.Encoder("scenes", **{**made, "seed": 0}).fingerprint
    assert found.provenance["batch_size"] == 5


@pytest.mark.filterwarnings("ignore")  # a processor may not be known to be fast in 16 bits
def test_half_precision_and_a_checkpoint_file_reach_the_encoder(embed):
    file = REPO / "data/scenes.safetensors"
    code, _, err, store = embed("--precision", "half", "--weights", str(file))
    assert code == 0
    assert vk.Embeddings.load(store).provenance["fingerprint"] == vk.Encoder("scenes", precision="half").fingerprint
    assert "file scenes.safetensors" in err


def test_reduced_decoding_is_asked_for_and_info_says_how_exact_it_was(embed, tmp_path, capsys):
    (tmp_path / "large").mkdir()
    for i in range(6):
        photo(i, (800, 600)).save(tmp_path / f"large/{i}.jpg")
    code, _, _, store = embed("--reduced", folder=tmp_path / "large")
    assert code == 0
    made = vk.Embeddings.load(store).provenance
    assert made["decoding"].startswith("JPEGs at reduced scale")
    assert main(["info", str(store)]) == 0
    text = capsys.readouterr().out
    assert f"  decoding      {made['decoding']}\n" in text
    assert f"  exactness     nearest kept {made['exactness']['nearest kept']:.3g}, 95% interval " in text
    embed(folder=tmp_path / "large")
    assert "decoding" not in vk.Embeddings.load(store).provenance


def test_several_layers_give_a_folder_of_one_store_each(embed, photos, tmp_path):
    layers = ["layer1", "input:fc"]
    code, out, _, folder = embed("--layer", layers[0], "--layer", layers[1])
    images, encoder = vk.ImageSet.from_folder(photos), vk.Encoder("scenes")
    wanted = vk.embed(images, encoder, layers=layers, cache=tmp_path / "other", progress=False)
    assert code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["input_fc", "layer1"]
    assert out.count("12 vectors") == 2
    for layer, name in zip(layers, ["layer1", "input_fc"], strict=True):
        np.testing.assert_array_equal(vk.Embeddings.load(folder / name).vectors, wanted[layer].vectors)
    assert embed("--layer", layers[0], "--layer", layers[1])[0] == 0  # onto what is there


def test_layers_whose_names_would_be_one_folder_get_two():
    layers = ["input:a", "input_a", "INPUT_A", "../b", "a b"]
    targets = command._targets(Path("/nowhere"), layers)
    assert list(targets) == layers
    assert len({str(target).lower() for target in targets.values()}) == 5
    assert {target.parent for target in targets.values()} == {Path("/nowhere")}
    assert targets["input:a"].name == "input_a"


def test_subfolders_can_be_left_out(embed, photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "more")
    photo(99).save(folder / "top.png")
    assert embed("--no-recursive", folder=folder)[1].startswith("1 vector of 128 dimensions")
    assert embed(folder=folder)[1].startswith("13 vectors")


def test_the_store_may_lie_in_the_folder_of_images_and_a_second_run_replaces_it(embed, photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "more")
    assert embed(folder=folder, out="more/vectors")[0] == 0
    (folder / "a/00.png").unlink()
    code, out, _, store = embed(folder=folder, out="more/vectors")
    assert (code, out) == (0, f"11 vectors of 128 dimensions in {store}\n")
    assert "a/00.png" not in vk.Embeddings.load(store).ids


def test_progress_goes_to_stderr_and_quiet_leaves_out_what_is_no_complaint(embed, tmp_path):
    _, out, err, _ = embed("--cache", str(tmp_path / "own"))
    assert "12 of 12 images" in err
    assert "12 of 12" not in out
    assert "2 labels (a 6, b 6)" in err
    assert embed("--quiet")[:3] == (0, "", "")


def test_some_failures_give_code_3_and_the_first_reasons(embed, some_broken):
    code, out, err, store = embed("--quiet", folder=some_broken)
    assert code == 3
    assert out == ""
    assert len(vk.Embeddings.load(store)) == 12
    lines = err.splitlines()
    assert lines[0] == "7 of 19 images gave no vector:"
    assert len([line for line in lines if "cannot be read" in line]) == 5
    assert lines[-1] == f"    and 2 more (all: vizkit info {store} --failures)"


def test_what_a_file_name_says_to_the_terminal_is_not_said(embed, some_broken, capsys):
    _, out, err, store = embed(folder=some_broken)
    assert main(["info", str(store)]) == 0
    assert main(["info", str(store), "--failures"]) == 0
    shown = capsys.readouterr()
    assert not CONTROL.search((out + err + shown.out + shown.err).replace("\r", ""))
    assert r"a/\x1b[2J\n\u202egnp.jpg" in shown.out


def test_printable_keeps_what_people_write_and_escapes_what_terminals_obey():
    assert printable("naïve 写真 photo's  2 × 🦊.jpg") == "naïve 写真 photo's  2 × 🦊.jpg"
    assert printable("a\x1b]0;b\x07\r\n\x9b\u202e\udc80") == r"a\x1b]0;b\x07\r\n\x9b\u202e\udc80"


def test_where_no_image_gives_a_vector_nothing_is_written_and_an_earlier_store_stays(embed, tmp_path):
    *_, store = embed()
    before = vk.Embeddings.load(store).vectors
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.jpg").write_bytes(b"no image")
    code, out, err, _ = embed(folder=tmp_path / "broken")
    assert (code, out) == (1, "")
    assert f"vizkit: error: no image gave a vector; nothing is written to '{store}'." in err.splitlines()
    assert "1 of 1 image gave no vector:" in err.splitlines()
    assert err.count("no image format") == 1
    assert "(first: a.jpg)" in err
    np.testing.assert_array_equal(vk.Embeddings.load(store).vectors, before)
    assert embed(folder=tmp_path / "broken", out="fresh")[0] == 1
    assert not (tmp_path / "fresh").exists()


def test_where_all_images_fail_every_reason_is_said_once_with_its_number(embed, some_broken):
    for path in some_broken.glob("*/??.png"):
        path.unlink()
    code, _, err, _ = embed("--quiet", folder=some_broken)
    lines = err.splitlines()
    assert code == 1
    assert lines[0] == "7 of 7 images gave no vector:"
    assert [re.match(r" +(\d+) x (its content is no image|the file is empty)", line)[1] for line in lines[1:3]] == [
        "6",
        "1",
    ]
    assert lines[2].endswith("(first: b/empty.png)")
    assert len(lines) == 4


def test_a_folder_that_cannot_be_listed_is_code_3_and_named_at_the_end(embed, photos, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(photos / "b"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    code, _, err, store = embed("--quiet")
    assert code == 3
    assert err.splitlines()[-1] == f"1 folder could not be listed, so images are missing: '{photos / 'b'}'"
    assert len(vk.Embeddings.load(store)) == 6


def test_stores_of_other_layers_that_an_earlier_run_left_are_named(embed):
    assert "left" not in embed("--layer", "conv1", "--layer", "layer1")[2]
    code, _, err, folder = embed("--quiet", "--layer", "layer1", "--layer", "layer2")
    assert code == 0
    assert err == f"vizkit: warning: 'conv1' in '{folder}' is left from an earlier run.\n"


def test_a_damaged_store_is_called_so_and_a_cache_is_not(embed, tmp_path):
    *_, store = embed("--cache", str(tmp_path / "own"))
    manifest = next(store.glob("_manifest*"))
    manifest.write_text(manifest.read_text()[:-20])
    assert embed()[2].endswith(f"--out '{store}' is a damaged store; delete it or choose another name.\n")
    manifest.unlink()
    assert embed()[2].endswith("is a damaged store; delete it or choose another name.\n")
    cache = next((tmp_path / "own").iterdir())
    assert "is neither empty nor a store" in embed(out=cache.relative_to(tmp_path))[2]


@pytest.mark.parametrize(
    ("message", "source"), [(python, shell) for python, shell in command._SHELL_WORDS.items()], ids=range(7)
)
def test_advice_in_words_of_python_is_what_the_library_says_and_is_told_in_words_of_the_shell(message, source):
    library = "".join(path.read_text() for path in (REPO / "vizkit").glob("*.py") if path.name != "command.py")
    assert message in re.sub(r'"\s+f?"', "", library)  # or the replacement would be forgotten here
    assert command._in_shell_words(f"A. {message}.", "timm:a b") == f"A. {source.replace('{model}', repr('timm:a b'))}."


@pytest.mark.parametrize("moment", ["before the old store is cleared away", "when the result is told"])
def test_a_signal_after_the_result_is_written_changes_nothing(embed, monkeypatch, moment):
    *_, store = embed()
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    rmtree, say, inode = shutil.rmtree, command._say, store.stat().st_ino

    def stop(function):
        def stopped(*args, **options):
            if store.stat().st_ino != inode:
                os.kill(os.getpid(), signal.SIGTERM)
            return function(*args, **options)

        return stopped

    if moment == "when the result is told":
        monkeypatch.setattr(command, "_say", stop(say))
    else:
        monkeypatch.setattr(shutil, "rmtree", stop(rmtree))
    code, out, err, _ = embed()
    assert (code, out) == (0, f"12 vectors of 128 dimensions in {store}\n")
    assert "Stopped" not in err
    assert len(vk.Embeddings.load(store)) == 12
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(
    ("size", "total", "wanted"),
    [((24, 80), 3, r"a: +100%.* 3 of 3"), ((0, 0), 1, r"a: 0 of 1 image\n(.*\n)*a: 1 of 1 image, ")],
)
def test_progress_is_a_bar_where_the_terminal_has_a_width_and_says_nothing_unknown(monkeypatch, size, total, wanted):
    import fcntl
    import pty
    import struct
    import termios

    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    with os.fdopen(inner, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.progress_bar(total, name="a") as bar:
            bar.update(total)
        monkeypatch.undo()
        print("the end", file=terminal, flush=True)
        said = ""
        while "the end" not in said:  # a terminal gives what was written to it in parts
            said += os.read(outer, 100_000).decode()
    os.close(outer)
    said = said.replace("\r\n", "\n")
    assert re.search(wanted, said)
    assert "?" not in said


@pytest.mark.parametrize(
    ("out", "layers", "says"),
    [
        ("taken", [], "is neither empty nor a store"),
        ("taken", ["fc", "conv1"], "holds 'mine.txt'; for several layers"),
        ("taken/mine.txt", [], "is a file; it is left alone"),
        ("taken/mine.txt/below", [], "cannot be written"),
        ("x" * 250, [], "cannot be written .*File name too long"),
    ],
)
def test_an_out_that_cannot_be_written_is_refused_before_the_work(embed, tmp_path, out, layers, says):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/mine.txt").write_text("mine")
    # A network that is not there: it would be complained of if anything were loaded first.
    code, stdout, err, _ = embed(*(x for layer in layers for x in ("--layer", layer)), out=out, model="no network")
    assert (code, stdout) == (1, "")
    assert re.search(says, err)
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "mine.txt"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "resnet5"}, "No network is named 'resnet5'.*resnet50"),
        ({"folder": "/no/such/folder"}, "'/no/such/folder' is not a folder"),
        ({"options": ["--layer", "layer9"]}, "no layer 'layer9'.*`vizkit layers scenes` lists them"),
        ({"options": ["--weights", "no.pth"]}, "no.pth"),
        ({"options": ["--preprocess", "imagenett"]}, "imagenett"),
        ({"options": ["--layer", "fc", "--layer", "fc"]}, "given more than once: 'fc'"),
    ],
)
def test_an_error_is_one_line_and_code_1(embed, options, says, tmp_path):
    code, out, err, store = embed("--quiet", *options.pop("options", []), **options)
    assert (code, out) == (1, "")
    assert re.fullmatch(f"vizkit: error: .*{says}.*\n", err)
    assert not store.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "a first run"),
        (["embed"], "required: FOLDER, --out, --model"),
        (["embed", "photos", "--model", "scenes"], "required: --out"),
        (["embed", "", "--model", "scenes", "--out", "v"], "FOLDER: the name is empty"),
        (["embed", "photos", "--model", "scenes", "--out", ""], "--out: the name is empty"),
        (["embed", "photos", "--model", "scenes", "--out", "v", "--batch-size", "0"], "'0' is no whole number from 1"),
        (["embed", "photos", "--model", "scenes", "--out", "v", "--pool", "mean"], "invalid choice: 'mean'"),
        (["embed", "photos", "--model", "scenes", "--out", "v", "--quie"], "unrecognized arguments: --quie"),
        (["info", "v", "--json", "--failures"], "not allowed with"),
        (["forget"], "invalid choice: 'forget'"),
    ],
)
def test_wrong_usage_is_code_2(arguments, says, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(arguments)
    assert says in capsys.readouterr().err


# ---------------------------------------------------------------------- help


@pytest.mark.parametrize("arguments", [["--help"], ["embed", "--help"], ["info", "--help"], ["layers", "--help"]])
def test_help_teaches_by_commands_that_are_understood_and_names_every_exit_code(arguments, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match=r"^0$"):
        main(arguments)
    text = capsys.readouterr().out
    examples = re.findall(r"^  (?:nohup )?vizkit (.*?)(?: 2>.*| \|.*)?$", text, re.MULTILINE)
    assert examples
    for line in examples:
        usage.parser().parse_args(["".join(word) for word in shlex.split(line)])
    assert [int(code) for code in re.findall(r"^  (\d+)  ", text, re.MULTILINE)] == [0, 1, 2, 3, 130, 143, 129]
    assert max(map(len, text.splitlines())) <= 80


def test_layers_are_listed_as_the_encoder_has_them_and_any_of_them_can_be_asked_for(embed, capsys):
    assert main(["layers", "scenes"]) == 0
    out, err = capsys.readouterr()
    rows = [re.split(r"  +", line) for line in out.splitlines()[1:]]
    encoder = vk.Encoder("scenes")
    assert [row[0] for row in rows] == list(encoder.layers)
    assert ["layer2", "Sequential", "32 x 16 x 16", "middle"] in [row[:4] for row in rows]
    assert err == f"Without --layer, scenes gives the vector of {encoder.layer!r}.\n"
    assert embed("--layer", rows[-1][0])[0] == 0


# ---------------------------------------------------------------------- info


def told(capsys, *arguments):
    """Return what `vizkit info --json` says, and its exit code."""
    capsys.readouterr()
    code = main(["info", "--json", *map(str, arguments)])
    return json.loads(capsys.readouterr().out), code


def test_info_says_what_a_store_holds_and_how_it_was_made(embed, some_broken, capsys):
    *_, store = embed("--quiet", folder=some_broken)
    about, code = told(capsys, store)
    encoder = vk.Encoder("scenes")
    assert code == 0
    assert (about["n"], about["dim"], about["dtype"], about["failed"]) == (12, 128, "float32", 7)
    assert about["bytes"] == sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    assert about["fingerprint"] == encoder.fingerprint
    assert about["card"] == {name: str(value) for name, value in encoder.card()["value"].items()}
    assert {"torch", "torchvision", "pillow", "vizkit"} <= set(about["versions"])
    assert [(group["n"], group["example"]) for group in about["failures"]][1:] == [(1, "b/empty.png")]
    assert about["failures"][0]["n"] == 6
    assert about["failures"][0]["reason"].startswith("its content is no image format that Pillow knows")
    assert about["failures"][1]["reason"].startswith("the file is empty (0 bytes)")
    assert about["problems"] == []
    assert main(["info", str(store)]) == 0
    text = capsys.readouterr().out
    for words in (
        "12 of 128 dimensions, float32",
        "failures      7",
        "6 x its content",
        encoder.fingerprint,
        "whole         yes",
    ):
        assert words in text


def test_every_failure_is_a_line_of_id_and_reason(embed, some_broken, capsys):
    *_, store = embed("--quiet", folder=some_broken)
    capsys.readouterr()
    assert main(["info", str(store), "--failures"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    wanted = vk.Embeddings.load(store).failures
    assert [id for id, _ in lines] == [printable(id) for id in wanted["id"]]
    assert [reason for _, reason in lines] == [printable(reason) for reason in wanted["reason"]]


def test_info_knows_float16_and_a_cache_and_a_folder_of_stores(embed, cache, tmp_path, capsys):
    layers = ["--layer", "conv1", "--layer", "layer2"]
    *_, folder = embed("--dtype", "float16", *layers, "--cache", str(tmp_path / "own"))
    stores, code = told(capsys, folder)
    assert code == 0
    assert [Path(about["store"]).name for about in stores] == ["conv1", "layer2"]
    assert [(about["n"], about["dim"], about["dtype"]) for about in stores] == [
        (12, 16, "float16"),
        (12, 32, "float16"),
    ]
    caches, code = told(capsys, tmp_path / "own")
    assert code == 0
    assert sorted((about["kind"], about["n"], about["dim"], about["failed"]) for about in caches) == [
        ("cache", 12, 16, None),
        ("cache", 12, 32, None),
    ]
    assert told(capsys, caches[0]["store"])[0]["fingerprint"] == caches[0]["fingerprint"]
    assert told(capsys, caches[0]["store"], "--quick")[0]["n"] == 12


@pytest.mark.parametrize("which", ["result", "cache"])
def test_a_damaged_store_is_code_1_and_the_file_is_named(embed, tmp_path, capsys, which):
    *_, store = embed("--cache", str(tmp_path / "own"))
    folder = store if which == "result" else next((tmp_path / "own").iterdir())
    shard = next(folder.glob("shard-*"))
    content, right = bytearray(shard.read_bytes()), pq.read_table(shard)
    seen = 0
    for place in range(64, len(content), len(content) // 16):
        assert told(capsys, folder)[1] == 0
        content[place] ^= 8
        shard.write_bytes(content)
        about, code = told(capsys, folder)
        seen += code
        if code == 0:  # a bit that changes no value, as in the name of the writer
            assert which == "cache"
            assert pq.read_table(shard).equals(right)
        else:
            assert str(shard) in about["problems"][0]
        content[place] ^= 8
        shard.write_bytes(content)
    assert seen > 10
    shard.write_bytes(content[:-9])
    assert told(capsys, folder, "--quick")[1] == 1
    assert main(["info", str(folder)]) == 1
    said = capsys.readouterr()
    assert re.search(f"^  whole         NO\n  +The file '{shard}' is damaged", said.out, re.MULTILINE)
    assert said.err.startswith(f"vizkit: error: The file '{shard}' is damaged")
    assert shard.exists()  # told, not mended


def test_a_store_that_lacks_a_file_or_its_manifest_is_code_1(embed, capsys):
    *_, store = embed()
    shard = next(store.glob("shard-*"))
    manifest = next(path for path in store.iterdir() if "manifest" in path.name)
    moved = shard.rename(store.with_name("moved"))
    assert told(capsys, store)[0]["problems"] == [f"The file '{shard}' is missing."]
    moved.rename(shard)
    manifest.write_text(manifest.read_text().replace("cpu", "gpu", 1))
    about, code = told(capsys, store)
    assert (code, about["kind"]) == (1, None)
    assert "is damaged" in about["problems"][0]


@pytest.mark.parametrize(("name", "says"), [("gone", "is not there"), ("a/00.png", "is a file"), ("a", "holds none")])
def test_what_is_no_store_is_code_1(photos, capsys, name, says):
    assert main(["info", str(photos / name)]) == 1
    assert re.fullmatch(f"vizkit: error: .*{says}.*\n", capsys.readouterr().err)


def test_info_does_without_torch_and_a_reader_that_leaves_is_no_error(embed):
    *_, store = embed("--quiet")
    code = f"import sys; from vizkit.command import main; main(['info', {str(store)!r}]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("every checksum is right\nFalse\n")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "vizkit", "info", store], cwd=REPO, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


# ---------------------------------------------------------------------- being stopped


@pytest.fixture(scope="module")
def eight_thousand(tmp_path_factory):
    """Tiny images of different content: more than are done before a test can stop the run."""
    folder, content = tmp_path_factory.mktemp("many"), io.BytesIO()
    photo(0, (8, 8)).save(content, "PNG")
    for i in range(8000):
        (folder / f"{i:04d}.png").write_bytes(content.getvalue() + bytes(str(i), "ascii"))
    return folder


@pytest.fixture
def many(eight_thousand, tmp_path):
    return shutil.copytree(eight_thousand, tmp_path / "many", copy_function=os.link)


@contextlib.contextmanager
def once_stored(cache, action):
    """Do something from another thread when the first vectors are in the cache, unless the block is left before."""
    left = threading.Event()

    def wait():
        while not left.wait(0.02):
            if list(cache.rglob("shard-*")):
                action()
                break

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


@pytest.mark.parametrize(
    ("name", "code", "called"), [("SIGINT", 130, "Ctrl-C"), ("SIGTERM", 143, "SIGTERM"), ("SIGHUP", 129, "SIGHUP")]
)
def test_a_stopped_run_says_calmly_what_is_stored_and_the_same_command_goes_on(
    many, tmp_path, capsys, name, code, called
):
    number, cache, out = getattr(signal, name), tmp_path / "cache", tmp_path / "out"
    before = signal.getsignal(number)
    command = ["embed", str(many), "--model", "scenes", "--batch-size", "1", "--out", str(out), "--cache", str(cache)]
    with once_stored(cache, lambda: os.kill(os.getpid(), number)):
        assert main([*command, "--quiet"]) == code
    wanted = f"Stopped by {called}: ([\\d,]+) of 8,000 images are stored. The same command goes on from there.\n"
    said = re.fullmatch(wanted, capsys.readouterr().err)
    assert said
    n = told(capsys, cache)[0][0]["n"]
    assert 0 < n == int(said[1].replace(",", "")) < 8000
    assert not out.exists()
    assert signal.getsignal(number) == before
    stored = {Path(path).name for shard in cache.rglob("shard-*") for path in pq.read_table(shard)["path"].to_pylist()}
    others = sorted(path for path in many.iterdir() if path.name not in stored)
    for path in others[9:]:
        path.unlink()  # or the rest would take the test too long
    assert main(command) == 0
    assert f" {n} of {n + 9} images" in capsys.readouterr().err  # where the progress begins
    assert len(vk.Embeddings.load(out)) == n + 9


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.stoppable() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        assert received == []
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_installed_command_stops_at_sigint(many, tmp_path):
    vizkit = Path(sys.executable).with_name("vizkit")
    assert subprocess.check_output([vizkit, "--version"], text=True) == f"vizkit {vk.__version__}\n"
    arguments = [many, "--model", "scenes", "--out", tmp_path / "out", "--cache", tmp_path / "cache"]
    process = subprocess.Popen([vizkit, "embed", *arguments], stderr=subprocess.PIPE, text=True)
    with once_stored(tmp_path / "cache", lambda: process.send_signal(signal.SIGINT)):
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert re.fullmatch("Stopped by Ctrl-C: .* images are stored. The same .*", err.splitlines()[-1])
    assert "Traceback" not in err
