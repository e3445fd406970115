"""MediaPipe's networks for partfit: detectors and landmarkers of faces and of hands."""
