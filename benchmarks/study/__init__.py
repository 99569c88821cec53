"""Studies: what a study is and how it runs. Enters: entries of a TOML file, their graph, order, progress and tuning."""
