"""Figures: frames of results drawn by matplotlib, as SVG and PNG. Enters: drawing, with every number given."""
