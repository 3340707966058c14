"""Raw inputs (base64, files, lists of numbers, strings, tensors) -> canonical arrays, as a checkpoint's InputSpec says.

The service decodes what callers send and the episode readers decode data sets through the same functions, so a
checkpoint sees at serving time exactly what it was trained on. Nothing is ever fetched by URL.
"""

from kshot.inputs.decode import check_tensor, decode_files, decode_values, describe, input_shape
from kshot.inputs.images import decode_image

__all__ = ["check_tensor", "decode_files", "decode_image", "decode_values", "describe", "input_shape"]
