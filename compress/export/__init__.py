"""Export. Enters: bundles, directories with a model that run without this package, and the files in them."""
