"""The report: finished runs as Markdown, HTML, CSV and figures. Enters: what shows results, not what computes them."""
