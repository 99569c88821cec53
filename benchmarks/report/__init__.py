"""The report: finished runs as Markdown, HTML, CSV and figures. Enters: what is read, not what is computed."""
