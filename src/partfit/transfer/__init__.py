"""Landmark transfer: where a landmarker's points lie on any model, found by showing it renders."""

from __future__ import annotations

from partfit.transfer.find import TransferResult, transfer_landmarks
from partfit.transfer.settings import TransferSettings

__all__ = ["TransferResult", "TransferSettings", "transfer_landmarks"]
