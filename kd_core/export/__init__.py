"""Export: the trained student as ONNX graphs for serving, in fp32 or int8, with calibrated exits."""
