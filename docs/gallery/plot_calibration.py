"""
Probabilities to believe
========================

A model that says 0.9 should be right nine times in ten. ``Calibration`` adds up how far it is from that, and
``fit_temperature`` finds the one number that mends most of it.
"""

import matplotlib.pyplot as plt
import numpy as np

from logitx.calibration import Calibration, fit_temperature, reliability_diagram

rng = np.random.default_rng(0)
true = rng.normal(size=(20_000, 4))
labels = (true + rng.gumbel(size=true.shape)).argmax(axis=1)  # drawn from the softmax of the true logits
logits = 2.5 * true + 0.3 * rng.standard_normal(true.shape)  # a model that is too sure of itself
held_out, test = slice(0, 10_000), slice(10_000, None)

# %%
# Fit on one half, look at the other
# ----------------------------------

temperature = fit_temperature(logits[held_out], labels[held_out])
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axis, (name, value) in zip(axes, {"as trained": 1.0, "with the temperature": temperature}.items(), strict=True):
    calibration = Calibration(temperature=value).update(logits[test], labels[test])
    result = calibration.result()
    print(f"{name}: confidence {result.confidence:.3f}, accuracy {result.accuracy:.3f}, error {result.error:.3f}")
    reliability_diagram(calibration, ax=axis)
    axis.set_title(f"{name}: T = {value:.2f}", fontsize=10)
