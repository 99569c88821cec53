"""Sections: a file for each section of the report. Enters: values (title, text, tables, figures), not Markdown."""
