"""The SpiralNet++ mesh decoder as a landmark head."""
