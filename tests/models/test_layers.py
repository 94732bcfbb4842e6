import pytest
import torch
from torch.nn import functional

from models.layers import BatchFreeLinear


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 16])
def test_a_row_does_not_depend_on_how_few_there_are(rows: int) -> None:
    torch.manual_seed(0)
    layer, inputs = BatchFreeLinear(64, 512), torch.randn(16, 64)
    assert torch.allclose(layer(inputs), functional.linear(inputs, layer.weight, layer.bias), atol=1e-6)
    assert layer(inputs[:rows]).shape == (rows, 512)
    if rows < 4:
        assert torch.equal(layer(inputs[:rows]), layer(inputs[:4])[:rows])
