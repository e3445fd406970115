"""What the tests of a plugin can use.

    partfit.testing.conformance   suites that every component of a kind must pass, to subclass (pytest)
    partfit.testing.datasets      a made-up data set of pictures with landmarks
    partfit.testing.strategies    hypothesis strategies for rotations, cameras, crops and meshes
    partfit.testing.synthetic     a made-up skinned model, and fit problems whose answer is known

Import these modules by name. `strategies` needs hypothesis, which `pip install "partfit[testing]"` brings.
"""
