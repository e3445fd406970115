"""What this distribution adds to partfit."""

from __future__ import annotations

from partfit.plugins import ComponentSpec, hookimpl


@hookimpl
def partfit_components() -> list[ComponentSpec]:
    """MediaPipe's detectors and landmarkers."""
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
        ComponentSpec(
            kind="landmarker",
            name="mediapipe-face-iris",
            target="partfit_mediapipe.face_iris_landmarker:FaceIrisLandmarker",
            summary="The points of mediapipe-face and five on each iris (scheme mediapipe478)",
            api_version=1,
        ),
        ComponentSpec(
            kind="detector",
            name="mediapipe-hand",
            target="partfit_mediapipe.hand_detector:HandDetector",
            summary="MediaPipe's palm detector, with tiles for small hands",
            api_version=1,
        ),
        ComponentSpec(
            kind="landmarker",
            name="mediapipe-hand",
            target="partfit_mediapipe.hand_landmarker:HandLandmarker",
            summary="21 points of a hand, in pixels and in metres, and its side (scheme hand21)",
            api_version=1,
        ),
    ]
