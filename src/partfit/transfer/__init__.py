"""Landmark transfer: where a landmarker's points lie on any model, found by showing it renders."""

from __future__ import annotations

from partfit.transfer.settings import TransferSettings
from partfit.transfer.transfer import TransferResult, transfer_landmarks

__all__ = ["TransferResult", "TransferSettings", "transfer_landmarks"]
