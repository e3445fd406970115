"""Learning landmarks: data sets, networks, losses and training.

A network is a timm backbone (`backbones`), a head for a landmark scheme (`heads`) and what its likelihood
makes of the head's raw numbers (`losses`): `networks` puts them together. Data sets (`datasets`) give
samples, which `batches` crops and `augmentation` varies; `training` fits the network to them.
"""
