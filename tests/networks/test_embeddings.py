import torch

from fewlabel.networks.embeddings import NoiseEmbedding


def test_the_embedding_tells_noise_levels_apart() -> None:
    """No two levels of the range look alike, and a few per cent of r are seen."""
    embedding = NoiseEmbedding(32).double()
    levels = torch.linspace(-1.8, 1.2, 301, dtype=torch.float64)  # 4 % of r apart
    angles = levels[:, None] * embedding.frequencies
    features = torch.cat([angles.sin(), angles.cos()], 1)
    distances = torch.cdist(features, features)
    apart = distances[~torch.eye(301, dtype=torch.bool)]
    assert apart.min() > 0.1 * apart.mean()
    with torch.no_grad():
        out = embedding(levels)
    assert torch.cdist(out, out)[~torch.eye(301, dtype=torch.bool)].min() > 1e-4
