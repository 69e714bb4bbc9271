"""Networks with their operators as programs of the measurements, for other runtimes: torch.export and ONNX."""

from unrolled.programs.exporting import export
from unrolled.programs.facts import Exported, Port
from unrolled.programs.program import Program

__all__ = ["Exported", "Port", "Program", "export"]
