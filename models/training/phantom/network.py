"""The 3-D U-Net of ../../../../shared/design/segmentation.md section 4, one level less: channels 8-24-48-80, logits out."""
import torch
from torch import nn

CLASSES = ["background", "liver", "liver_lesion", "colon", "colorectal_tumor"]


def block(n_in, n_out, stride=1):
    return nn.Sequential(nn.Conv3d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm3d(n_out), nn.ReLU(inplace=True))


class UNet(nn.Module):
    """Input (n, 1, z, y, x), each axis a multiple of 8; output logits (n, 5, z, y, x)."""

    def __init__(self, channels=(8, 24, 48, 80)):
        super().__init__()
        a, b, c, d = channels
        self.level_1 = block(1, a)
        self.level_2 = nn.Sequential(block(a, b, 2), block(b, b))
        self.level_4 = nn.Sequential(block(b, c, 2), block(c, c))
        self.level_8 = nn.Sequential(block(c, d, 2), block(d, d))
        self.up_quarter, self.join_quarter = nn.ConvTranspose3d(d, c, 2, 2), block(2 * c, c)
        self.up_half, self.join_half = nn.ConvTranspose3d(c, b, 2, 2), block(2 * b, b)
        self.up_full, self.join_full = nn.ConvTranspose3d(b, a, 2, 2), block(2 * a, 2 * a)
        self.head = nn.Conv3d(2 * a, len(CLASSES), 1)

    def forward(self, x):
        full = self.level_1(x)
        half = self.level_2(full)
        quarter = self.level_4(half)
        y = self.level_8(quarter)
        y = self.join_quarter(torch.cat([self.up_quarter(y), quarter], 1))
        y = self.join_half(torch.cat([self.up_half(y), half], 1))
        y = self.join_full(torch.cat([self.up_full(y), full], 1))
        return self.head(y)
