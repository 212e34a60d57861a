"""Kernels for GPUs of the operators in `refiner.frozen`, in Triton.

`proof` decides whether a kernel is used and is all that others import: Triton is there only with PyTorch's builds for
GPUs, so `launch` and `kernels` are imported when the first tensor on such a device arrives.
"""
