"""Likelihood losses for landmark networks: NGLL, Laplace, ResLL, ResLL Exp and the vertex-edge loss."""
