"""Written as `sitecustomize.py`: hides every package but those that `python -m benchmarks.gpu` may need."""

import sys
from collections.abc import Iterator
from typing import Any

ALLOWED = {
    *("torch", "torchgen", "functorch", "numpy", "PIL", "safetensors", "rich"),
    *("filelock", "typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec"),  # torch's
    *("setuptools", "_distutils_hack", "markdown_it", "mdurl", "pygments"),  # torch's and rich's
    *("compress", "baselines", "benchmarks"),
}
DISTRIBUTIONS = {*(name.replace("_", "-") for name in ALLOWED), "pillow"}


class Hiding:
    """A finder that finds what another one finds, unless it is hidden."""

    def __init__(self, finder: Any) -> None:
        self.finder = finder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        top = name.partition(".")[0]
        if top in ALLOWED or top in sys.stdlib_module_names or top.startswith("_"):
            return self.finder.find_spec(name, path, target)
        return None

    def find_distributions(self, context: Any) -> Iterator[Any]:
        for found in getattr(self.finder, "find_distributions", lambda _: ())(context):
            if (found.metadata["Name"] or "").lower().replace("_", "-") in DISTRIBUTIONS:
                yield found

    def invalidate_caches(self) -> None:
        getattr(self.finder, "invalidate_caches", lambda: None)()


sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
