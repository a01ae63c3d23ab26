"""One benchmark for visual correspondence: score any backbone, measured exactly as each paper measured.

    import corrbench
    result = corrbench.evaluate(model, "davis2017-val", root="/data/DAVIS-2017", protocol="crw")
    result["J&F"], result.per_object, result.save("scores")

`corrbench --help` lists the commands.
"""

# What type checkers see is in __init__.pyi: an import here, even an unused one, would make the whole library part of every
# program's code version (corrbench/provenance.py).

__all__ = ["Refusal", "Result", "evaluate", "list_benchmarks", "list_methods", "list_protocols", "propagate"]


def __getattr__(name: str) -> object:
    """The functions of the API, imported when they are asked for: the programs need none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("corrbench.errors" if name == "Refusal" else "corrbench.api"), name)
