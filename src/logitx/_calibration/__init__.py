"""What `logitx.calibration` offers, a file each."""
