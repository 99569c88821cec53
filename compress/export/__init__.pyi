from .bundle import Bundle, read_bundle
from .exporting import export_bundle
from .form import Form

__all__ = [
    "Bundle",
    "Form",
    "export_bundle",
    "read_bundle",
]
