"""Export: the trained student as ONNX graphs that serve it, in fp32 or int8, and its calibrated exits."""
