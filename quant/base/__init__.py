"""The ground of quant: weights as matrices, configurations, and quantized tensors."""
