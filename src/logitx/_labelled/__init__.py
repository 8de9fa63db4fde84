"""Labelled and masked arrays: the labels are removed before a call is planned and put back on its results."""
