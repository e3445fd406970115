"""What this distribution adds to partfit."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """MediaPipe's face detector and landmarker."""
    return [
        ComponentSpec(
            kind="detector",
            name="mediapipe-face",
            target="partfit_mediapipe.face_detector:FaceDetector",
            summary="MediaPipe's full-range face detector, with tiles for small faces",
            api_version=1,
        ),
        ComponentSpec(
            kind="landmarker",
            name="mediapipe-face",
            target="partfit_mediapipe.face_landmarker:FaceLandmarker",
            summary="The 468 points of MediaPipe's face mesh (scheme mediapipe468)",
            api_version=1,
        ),
    ]
