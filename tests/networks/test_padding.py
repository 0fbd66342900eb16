import numpy as np
import pytest
import torch

from fewlabel.networks.padding import padded


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (3, 2), (8, 16), (33, 47)])
@pytest.mark.parametrize("multiple", [1, 4, 8, 16])
def test_images_are_reflected_as_numpy_does_it(size: tuple[int, int], multiple: int) -> None:
    """However often an image must be reflected to fill the padding."""
    u = torch.randn(2, 3, *size)
    height, width = (-(-side // multiple) * multiple - side for side in size)
    expected = np.pad(u.numpy(), [(0, 0), (0, 0), (0, height), (0, width)], mode="reflect")
    assert torch.equal(padded(u, multiple), torch.from_numpy(expected))
