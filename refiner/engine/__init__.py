"""The method: tensors in, tensors out. It knows no files and no network, only the interface of one."""
