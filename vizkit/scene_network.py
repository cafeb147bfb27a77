"""The network of the embedded default: torchvision's ResNet at a quarter of its width, with a map of 8 x 8.

It reads the scenes of `synthetic`. A plain ResNet-18 shrinks 64 pixels to 2 x 2, too coarse to say where anything is:
here the stem has no max pooling and the last stage keeps its stride at 1, so that `layer4` sees 8 x 8 places.
"""

from typing import TYPE_CHECKING

from .scene_drawing import SHAPES

if TYPE_CHECKING:
    from torchvision.models import ResNet

SCENE_CLASSES = SHAPES  # in the order of the logits
SCENE_MEAN = (0.55, 0.55, 0.55)  # of RGB in [0, 1]: subtracted from what the network reads
SCENE_STD = (0.15, 0.15, 0.15)  # and what the rest is divided by
_WIDTHS = (16, 32, 64, 128)
_STRIDES = (1, 2, 2, 1)


def scene_network() -> "ResNet":
    """Return the architecture with random weights, in training mode; call `torch.manual_seed` first to repeat them.

    Returns
    -------
    torchvision.models.ResNet
        Takes (n, 3, 64, 64) float32, RGB in [0, 1] less `SCENE_MEAN` and divided by `SCENE_STD`; gives (n, 10) logits
        in the order of `SCENE_CLASSES`. `layer4` is (n, 128, 8, 8), what `fc` reads is (n, 128).
    """
    from torch import nn
    from torchvision.models.resnet import BasicBlock, ResNet

    module = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=len(SCENE_CLASSES))
    channels = _WIDTHS[0]
    module.conv1 = nn.Conv2d(3, channels, kernel_size=3, stride=2, padding=1, bias=False)
    module.bn1 = nn.BatchNorm2d(channels)
    # Identity keeps torchvision's own forward; without parameters it is not in the state dict.
    module.maxpool = nn.Identity()  # ty: ignore[invalid-assignment]
    for stage, (width, stride) in enumerate(zip(_WIDTHS, _STRIDES, strict=True), start=1):
        shortcut = None
        if stride != 1 or channels != width:
            shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        blocks = nn.Sequential(BasicBlock(channels, width, stride, shortcut), BasicBlock(width, width))
        setattr(module, f"layer{stage}", blocks)
        channels = width
    module.fc = nn.Linear(channels, len(SCENE_CLASSES))
    for part in module.modules():
        if isinstance(part, nn.Conv2d):  # as torchvision's ResNet initializes its own
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
    return module
