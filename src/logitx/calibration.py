"""Whether probabilities can be believed: calibration in one read, temperature scaling, confidence of single rows.

>>> import numpy as np
>>> from logitx import calibration
>>> logits, labels = np.array([[4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [0.0, 4.0]]), np.array([0, 0, 1, 0])
>>> print(calibration.Calibration().update(logits, labels).result().error.__round__(4))
0.232
>>> print(round(calibration.fit_temperature(logits, labels), 4))
3.641
"""

from __future__ import annotations

from logitx._calibration.accumulate import Bins, Calibration, Reliability
from logitx._calibration.confidence import confidence
from logitx._calibration.diagram import reliability_diagram
from logitx._calibration.temperature import fit_temperature

__all__ = ["Bins", "Calibration", "Reliability", "confidence", "fit_temperature", "reliability_diagram"]
