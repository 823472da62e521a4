"""PyTorch's `scaled_dot_product_attention` on the GPU, for `kernel_runs.py`, in its process."""

import time


def runner(batch, q_len, kv_len, heads, kv_heads, depth, is_causal, dtype, direction):
    """What runs it some times and returns milliseconds a call.

    Raises:
      RuntimeError: if this is a PyTorch without CUDA; ImportError if there is none.
    """
    import torch  # pyright: ignore[reportMissingImports]  # the linter's interpreter need not have it
    from torch.nn.functional import scaled_dot_product_attention  # pyright: ignore[reportMissingImports]

    if not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} sees no GPU")
    make = {"dtype": getattr(torch, dtype), "device": "cuda", "requires_grad": direction == "backward"}
    query = torch.randn(batch, heads, q_len, depth, **make)
    key, value = (torch.randn(batch, kv_heads, kv_len, depth, **make) for _ in range(2))

    def attend():
        return scaled_dot_product_attention(query, key, value, is_causal=is_causal, enable_gqa=heads != kv_heads)

    output = attend()
    cotangent = torch.randn_like(output)

    def gradients():
        return torch.autograd.grad(output, (query, key, value), cotangent, retain_graph=True)

    once = gradients if direction == "backward" else attend
    once()
    torch.cuda.synchronize()

    def run(passes):
        start = time.perf_counter()
        for _ in range(passes):
            once()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3 / passes

    return run
