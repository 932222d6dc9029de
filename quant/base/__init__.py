"""The ground of quant: the Config base class, quantized tensors, and weights as matrices."""
