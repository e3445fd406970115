"""MediaPipe's networks for partfit: a face detector and a landmarker of 468 points."""
