"""corrbench: measure video-correspondence representations exactly as the papers measured them."""

__version__ = "0.1.0"
