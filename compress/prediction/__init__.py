"""Prediction. Enters: labels for image files, by a run or by a bundle."""
