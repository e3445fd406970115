"""Geometry that knows no body part: rotations, cameras, crops, meshes."""
