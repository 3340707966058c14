"""What is made of the figures of a comparison."""

from kshot.contracts.checkpoints import Estimate
from kshot.contracts.registry import ComparedShape, verdict_of


def row(mean: float, interval: float) -> ComparedShape:
    figure = Estimate(mean=0.5, interval=0.1)
    ahead = Estimate(mean=mean, interval=interval)
    return ComparedShape(
        n_way=5, k_shot=1, metric="accuracy", challenger=figure, incumbent=figure, ahead=ahead, episodes=300
    )


def test_one_shape_lost_outweighs_one_won() -> None:
    won, lost, even = row(0.05, 0.02), row(-0.05, 0.02), row(-0.01, 0.02)
    assert [verdict_of(rows) for rows in [(won, lost), (won, even), (even,)]] == ["worse", "better", "no_worse"]
