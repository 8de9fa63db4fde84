"""Formulas that several backends share, written on the Array API standard."""
