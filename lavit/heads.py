"""The projection head of L_concept: from the student's hidden state to the teacher's width."""

from __future__ import annotations

from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """MLP of two layers, hidden → hidden → teacher width (paper section 4.2: "MLP"), GELU between them."""

    def __init__(self, hidden: int, teacher_width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, teacher_width))

    def forward(self, states: Tensor) -> Tensor:
        """[.., hidden] → [.., teacher width]."""
        return self.layers(states)
