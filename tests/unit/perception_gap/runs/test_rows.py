"""What a row says of where its image tokens lie."""

from perception_gap.geometry import TokenGeometry
from perception_gap.runs.rows import geometry_fields, geometry_of


def test_geometry_survives_a_row():
    tiles = TokenGeometry.concatenate([TokenGeometry.grid(2, 3), TokenGeometry.nowhere(1), TokenGeometry.grid(1, 1)])
    for geometry in (TokenGeometry.grid(3, 5), tiles):
        assert geometry_of(geometry_fields(geometry)) == geometry
    assert geometry_fields(TokenGeometry.grid(3, 5))["token_boxes"] == []
