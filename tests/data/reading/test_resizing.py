"""How images of any size come to one, on real scans."""

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from image_sets import digit
from selfkd.data.reading.resizing import centre_square


def whole(side, resize):
    """Scaled as a whole, then cut."""
    return v2.Compose([v2.RGB(), v2.Resize(resize), v2.CenterCrop(side), v2.PILToTensor()])


@pytest.mark.parametrize("size", [(32, 32), (40, 33), (33, 64), (17, 136), (136, 17)])
def test_the_shorter_side_is_scaled_and_the_centre_cut_out(size):
    image = digit(5).resize(size)
    assert torch.equal(centre_square(24, 28)(image), whole(24, 28)(image))


@pytest.mark.parametrize("size", [(10, 400), (401, 10)])
def test_of_very_long_images_the_same_centre_is_cut_out(size):
    image = digit(5).resize(size)
    difference = centre_square(24, 28)(image).int() - whole(24, 28)(image).int()
    assert difference.abs().max() <= 16  # of 255: the centre may lie half a pixel elsewhere


def test_a_line_of_pixels_does_not_fill_the_memory(monkeypatch):
    scaled = []
    resize = Image.Image.resize

    def noted(image, size, *args, **kwargs):
        scaled.append(size)
        return resize(image, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", noted)
    square = centre_square(224, 256)(Image.new("RGB", (1, 100_000), "red"))
    assert square.shape == (3, 224, 224)
    assert scaled == [(256, 8 * 256)]
