"""The DAD-3DHeads data set for partfit, read and written in its own format."""
