"""What the command `vizkit` understands, and the help that teaches it."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

_EXITS = """exit codes
  0    all is well: every image gave a vector; the store is whole
  1    an error, said on stderr: no result was written, or the store is damaged
  2    the command was not understood
  3    done and written, but some images gave no vector (stderr shows the first
       reasons, `vizkit info STORE --failures` all of them), or a folder could
       not be listed, which stderr names
  130  stopped by Ctrl-C: what is done is kept, and the same command goes on
  143  the same by SIGTERM, as batch systems send it
  129  the same by SIGHUP: the terminal was closed (nohup prevents it)
"""

_MAIN = f"""See what a network sees when it says that two images are alike.

This command is for the long job: a vector for every image in a folder, which
notebooks then map, search and explain.

a first run
  vizkit embed photos --model scenes --out vectors
  vizkit info vectors

"scenes" is the small network that comes with vizkit, and needs no download;
--model resnet50 takes torchvision's. `vizkit embed --help` has the rest:
layers, resuming, what is written, and how to open it.

{_EXITS}"""

_EMBED = f"""Give every image in FOLDER a vector and write them into a store, a folder of
Parquet files: vectors, ids, labels, failures, and how the vectors were made.

examples
  vizkit embed photos --model scenes --out vectors
  vizkit embed photos --model resnet50 --out vectors
  vizkit embed photos --model resnet50 --layer layer4 --pool gem --out vectors
  vizkit embed photos --model resnet50 --layer layer1 --layer layer4 --out both
  vizkit embed photos --model mobilenet_v2 --weights trained.pth --out vectors
  nohup vizkit embed photos --model resnet50 --out vectors 2> log &

resuming
  However a run ends, the same command goes on where it was. Finished vectors
  are kept in a cache (--cache), on disk about a second after they were made;
  a later run computes new and changed images only. What is written in the end
  holds the images that are in FOLDER then. Several runs may share one cache.

what is written
  STORE is written whole, at the end, and only then takes the place of an
  earlier store of that name. A folder that holds anything else is refused
  before the work begins. With --layer given more than once, STORE is a folder
  of one store a layer, all from one pass over the images.

opening it
  vizkit info STORE
  pandas.read_parquet("STORE")         one row an image: id, path, label, vector
  vizkit.Embeddings.load("STORE", encoder=vizkit.Encoder("resnet50"))
      for map, neighbors and evidence; without encoder= all but the evidence

{_EXITS}"""

_LAYERS = f"""List the layers of a network, which --layer takes.

In running order, with the shape of what each gives for one image, and how deep
it lies. Nothing is downloaded: layers are the same whatever the weights.

examples
  vizkit layers resnet50
  vizkit layers timm:convnext_atto

{_EXITS}"""

_INFO = f"""Say what a store holds, how it was made, and whether it is whole.

STORE is what `vizkit embed --out` or Embeddings.save wrote, a cache, or a
folder of these. All vectors are read, and the checksums that were written with
them verified; --quick leaves that out.

examples
  vizkit info vectors
  vizkit info vectors --failures
  vizkit info vectors --json | jq .n

{_EXITS}"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; what it gives names the subcommand in `command`."""
    from . import __version__

    top = _command(argparse.ArgumentParser, _MAIN, prog="vizkit")
    top.add_argument("--version", action="version", version=f"vizkit {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", dest="command")
    _embed_options(_command(commands.add_parser, _EMBED, "embed", help="a folder of images in, a store of vectors out"))
    info = _command(commands.add_parser, _INFO, "info", help="what a store holds, how it was made, whether it is whole")
    info.add_argument("store", metavar="STORE", type=_path, help="a store, a cache, or a folder of these")
    info.add_argument("--quick", action="store_true", help="do not read the vectors to verify their checksums")
    form = info.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON: an object, or a list for a folder of stores")
    form.add_argument("--failures", action="store_true", help="only the images without a vector: id, tab, reason")
    layers = _command(commands.add_parser, _LAYERS, "layers", help="the layers of a network, for --layer")
    layers.add_argument("model", metavar="MODEL", help="a name, as for vizkit embed --model")
    return top


def _command(
    make: Callable[..., argparse.ArgumentParser], text: str, *names: str, **more: Any
) -> argparse.ArgumentParser:
    """Make a parser whose help begins with the first paragraph of the text and ends with the rest."""
    description, _, epilog = text.partition("\n\n")
    form = argparse.RawDescriptionHelpFormatter
    # No abbreviations: a script must go on working when options are added.
    return make(*names, description=description, epilog=epilog, formatter_class=form, allow_abbrev=False, **more)


def _embed_options(parser: argparse.ArgumentParser) -> None:
    from .devices import PRECISIONS
    from .pooling import POOLS

    add = parser.add_argument
    add("folder", metavar="FOLDER", type=_path, help="of images; a first-level subfolder is the label of what it holds")
    add("--out", required=True, metavar="STORE", type=_path, help="folder to write; may lie inside FOLDER")
    add(
        "--model",
        required=True,
        metavar="NAME",
        help='"scenes" (comes with vizkit), a torchvision network, "timm:NAME" or "open_clip:NAME"',
    )
    add(
        "--weights",
        default="DEFAULT",
        metavar="WEIGHTS",
        help='"DEFAULT" (the newest; downloaded once), a tag such as IMAGENET1K_V1, a checkpoint file, or "random"',
    )
    add(
        "--layer",
        action="append",
        metavar="LAYER",
        help="a name that `vizkit layers NAME` lists; may be given more than once (default: before the classifier)",
    )
    add("--pool", choices=POOLS, help="how a map or tokens become one vector (default: gap, the mean over positions)")
    add(
        "--preprocess",
        metavar="NAME",
        help='"imagenet", "[0,1]", "[-1,1]" or "grayscale" (default: as the weights want)',
    )
    add(
        "--device", metavar="DEVICE", help='"cpu", "cuda", "cuda:1", "mps", or "auto", the best there is (default: cpu)'
    )
    add(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="half: 16-bit arithmetic, less exact; how much is said",
    )
    add(
        "--reduced",
        action="store_true",
        help="decode large JPEGs at reduced scale: faster, less exact; how much is said",
    )
    add("--batch-size", type=_positive, metavar="N", help="images a forward pass (default: what suits)")
    add(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="of the stored vectors; float16 halves the store",
    )
    add(
        "--cache",
        type=_path,
        metavar="CACHE",
        help="where finished vectors are kept (default: in the user's cache folder)",
    )
    add("--no-recursive", dest="recursive", action="store_false", help="do not look into subfolders")
    add("--seed", type=int, default=0, metavar="N", help="of random weights (default: 0)")
    add(
        "-q",
        "--quiet",
        action="store_true",
        help="print warnings, failures and errors only; what is said of exactness is in the store all the same",
    )


def _path(text: str) -> Path:
    if not text:  # an unset variable of the shell; as a path it would be the working folder
        raise argparse.ArgumentTypeError("the name is empty")
    return Path(os.path.expanduser(text))  # noqa: PTH111  (Path.expanduser raises where there is no such user)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)
