"""Prints the files of all modules that are loaded after the import of one: ``python -m tests.loaded scripts.table``."""

import importlib
import sys

importlib.import_module(sys.argv[1])
print("\n".join(m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)))
