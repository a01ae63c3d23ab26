"""The rows of released weights name files that exist and can be opened."""

import pytest
from torchvision.models import ResNet18_Weights, ResNet50_Weights


@pytest.mark.parametrize(("name", "theirs"), [("imagenet-r18", ResNet18_Weights), ("imagenet-r50", ResNet50_Weights)])
def test_imagenet_is_torchvisions_v1_in_the_format_that_opens(name, theirs, methods):
    """torchvision's address is the file that was saved again; the older ones (5c106cde, 19c8e357) are tar archives."""
    released = methods.get(name, "test")["released"]
    (address,) = released["addresses"]
    assert address == theirs.IMAGENET1K_V1.url
    assert released["file"] == address.rpartition("/")[2]
    stem, _, prefix = released["file"].removesuffix(".pth").partition("-")
    assert released["hash"] == {"algorithm": "sha256", "value": prefix, "on_mismatch": "refuse"}, (
        "names of torch.hub files end with the first digits of their sha256"
    )
    assert stem == methods.get(name, "test")["encoder"]["arch"]
