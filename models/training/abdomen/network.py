"""The 3-D U-Nets: Conv, ConvTranspose, Concat and ReLU only once the norm is folded; logits out."""
import torch
from torch import nn

ORGAN_CHANNELS = (8, 24, 48, 80, 96)
LESION_CHANNELS = (12, 24, 48, 64)


def block(n_in, n_out, stride=1):
    return nn.Sequential(nn.Conv3d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm3d(n_out), nn.ReLU(inplace=True))


class UNet(nn.Module):
    """Input (n, inputs, z, y, x), each axis a multiple of 2^(levels - 1); output logits (n, classes, z, y, x)."""

    def __init__(self, channels, classes, inputs=1):
        super().__init__()
        self.first = block(inputs, channels[0])
        pairs = list(zip(channels, channels[1:]))
        self.down = nn.ModuleList(nn.Sequential(block(a, b, 2), block(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, 2) for a, b in pairs)
        self.join = nn.ModuleList(block(2 * a, a) for a, _ in pairs)
        self.head = nn.Conv3d(channels[0], classes, 1)

    def forward(self, x):
        kept = [self.first(x)]
        for down in self.down:
            kept.append(down(kept[-1]))
        y = kept.pop()
        for up, join in zip(reversed(self.up), reversed(self.join)):
            y = join(torch.cat([up(y), kept.pop()], 1))
        return self.head(y)
