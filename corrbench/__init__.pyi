from corrbench.api import Result as Result
from corrbench.api import evaluate as evaluate
from corrbench.api import list_benchmarks as list_benchmarks
from corrbench.api import list_methods as list_methods
from corrbench.api import list_protocols as list_protocols
from corrbench.api import propagate as propagate
from corrbench.errors import Refusal as Refusal

__all__ = ["Refusal", "Result", "evaluate", "list_benchmarks", "list_methods", "list_protocols", "propagate"]
