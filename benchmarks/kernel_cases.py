"""What `kernels.py` checks and times, and the arithmetic in it.

The sizes of the timed attention are those that papers and libraries report: 16,384 tokens, heads times depth 2,048.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

TOKENS, WIDTH = 16_384, 2_048


@dataclass(frozen=True)
class AttentionCase:
    """Attention of a shape, with what it takes into account."""

    batch: int
    q_len: int
    kv_len: int
    heads: int
    kv_heads: int
    depth: int
    is_causal: bool = False
    window: tuple[int, int] | None = None
    softcap: float | None = None
    lengths: bool = False
    segments: bool = False
    bias: bool = False
    dtype: str = "bfloat16"

    @property
    def name(self) -> str:
        """For the lines."""
        words = [f"b{self.batch}_t{self.q_len}_s{self.kv_len}_h{self.heads}_{self.kv_heads}_d{self.depth}"]
        words += [word for word in ("lengths", "segments", "bias") if getattr(self, word)]
        words += ["causal"] * self.is_causal + ["window"] * (self.window is not None)
        words += ["softcap"] * (self.softcap is not None) + [self.dtype] * (self.dtype != "bfloat16")
        return "_".join(words)

    def flops(self, direction: str) -> float:
        """Of the products that a dense form needs: 4BHTSD, half of it if causal, 2.5 times as many backward."""
        forward = 4 * self.batch * self.heads * self.q_len * self.kv_len * self.depth * (0.5 if self.is_causal else 1)
        return forward * (2.5 if direction == "backward" else 1)

    @property
    def cache_bytes(self) -> int:
        """Of keys and values."""
        return 2 * self.batch * self.kv_len * self.kv_heads * self.depth * 2


@dataclass(frozen=True)
class MatmulCase:
    """A product, with what is done to it on the way out; batch 0: two matrices."""

    m: int
    n: int
    k: int
    batch: int = 0
    transpose_a: bool = False
    transpose_b: bool = False
    bias: bool = False
    activation: str | None = None
    pairs: bool = False  # `cluster_size` 2 in place of the default
    dtype: str = "bfloat16"

    @property
    def name(self) -> str:
        """For the lines."""
        words = [f"b{self.batch}"] * (self.batch > 0) + [f"m{self.m}_n{self.n}_k{self.k}"]
        words += [word for word in ("transpose_a", "transpose_b", "bias", "pairs") if getattr(self, word)]
        words += [self.activation] if self.activation else []
        return "_".join(words + [self.dtype] * (self.dtype != "bfloat16"))

    @property
    def flops(self) -> float:
        """2MNK."""
        return 2.0 * max(self.batch, 1) * self.m * self.n * self.k


class Goal(NamedTuple):
    """What a figure has to reach, and what it should."""

    figure: str  # a key of the line
    must: float | None
    target: float


class Suite(NamedTuple):
    """Cases of an operation."""

    checked: list[AttentionCase] | list[MatmulCase]  # only against float32
    timed: list[AttentionCase] | list[MatmulCase]  # the most wanted first: time may run out


def attention_at(depth: int, length: int, is_causal: bool) -> AttentionCase:
    """The published sizes."""
    heads = WIDTH // depth
    return AttentionCase(TOKENS // length, length, length, heads, heads, depth, is_causal)


ATTENTION_CHECKED = [
    AttentionCase(2, 129, 129, 2, 2, 64),
    AttentionCase(2, 1000, 1000, 4, 2, 128, is_causal=True),
    AttentionCase(2, 63, 257, 4, 1, 64, is_causal=True),  # bottom-right
    AttentionCase(1, 257, 63, 2, 2, 64, is_causal=True),  # rows that see nothing
    AttentionCase(2, 513, 513, 2, 1, 128, window=(100, 0), softcap=20.0),
    AttentionCase(3, 300, 200, 2, 2, 128, lengths=True, dtype="float16"),
    AttentionCase(2, 384, 384, 2, 2, 64, is_causal=True, segments=True),
    AttentionCase(2, 200, 300, 2, 2, 64, bias=True),
    AttentionCase(1, 500, 500, 2, 2, 256),
    AttentionCase(1, 333, 333, 2, 1, 96, is_causal=True),  # padded depth
    AttentionCase(1, 1, 1, 1, 1, 64),
]
ATTENTION_QUICK = [
    attention_at(128, 8192, False), attention_at(128, 8192, True), attention_at(64, 8192, False),
    attention_at(64, 8192, True), attention_at(256, 8192, False), attention_at(128, 1024, True),
]  # fmt: skip
ATTENTION_FULL = ATTENTION_QUICK + [
    case
    for length in (4096, 16384, 2048, 1024, 512)
    for depth in (128, 64, 256)
    for is_causal in (False, True)
    for case in [attention_at(depth, length, is_causal)]
    if case not in ATTENTION_QUICK
] + [AttentionCase(4, 4096, 4096, 32, 8, 128, is_causal=True)]  # fmt: skip

DECODE_CHECKED = [
    AttentionCase(2, 1, 1000, 4, 2, 128, lengths=True),
    AttentionCase(1, 1, 63, 2, 2, 64),
    AttentionCase(2, 1, 4097, 8, 1, 128, window=(1000, 0)),
    AttentionCase(1, 1, 300, 2, 1, 256, softcap=20.0, dtype="float16"),
]
DECODE_QUICK = [
    AttentionCase(16, 1, 8192, 8, 8, 128),
    AttentionCase(16, 1, 8192, 32, 8, 128),
    AttentionCase(1, 1, 131_072, 32, 8, 128),
    AttentionCase(16, 1, 8192, 16, 16, 64),
]
DECODE_FULL = [
    *DECODE_QUICK,
    AttentionCase(4, 1, 32_768, 32, 8, 128),
    AttentionCase(64, 1, 2048, 32, 8, 128),
    AttentionCase(16, 1, 8192, 16, 1, 128),
    AttentionCase(16, 1, 8192, 8, 4, 256),
    AttentionCase(1, 1, 4096, 32, 8, 128),
]

MATMUL_CHECKED = [
    MatmulCase(1000, 999, 129),
    MatmulCase(1, 63, 500),
    MatmulCase(256, 384, 512, transpose_a=True, dtype="float16"),
    MatmulCase(130, 200, 300, transpose_b=True, bias=True, activation="gelu"),
    MatmulCase(200, 130, 72, batch=3, transpose_a=True, transpose_b=True, activation="silu"),
    MatmulCase(512, 512, 2048, bias=True, activation="relu"),
    MatmulCase(1000, 1000, 1000, pairs=True),
]
MATMUL_QUICK = [
    MatmulCase(8192, 8192, 8192),
    MatmulCase(4096, 4096, 4096),
    MatmulCase(8192, 8192, 8192, bias=True, activation="gelu"),
    MatmulCase(8192, 8192, 8192, pairs=True),
    MatmulCase(8192, 8192, 8192, transpose_b=True),
    MatmulCase(8192, 8192, 8192, transpose_a=True),
]
MATMUL_FULL = [
    *MATMUL_QUICK,
    MatmulCase(2048, 2048, 2048),
    MatmulCase(1024, 1024, 1024),
    MatmulCase(16_384, 2048, 8192),
    MatmulCase(16_384, 8192, 2048, bias=True, activation="gelu"),
    MatmulCase(8192, 8192, 8192, dtype="float16"),
    MatmulCase(1024, 1024, 1024, batch=16),
    MatmulCase(4000, 4000, 4000),
    MatmulCase(64, 8192, 8192),
]

SUITES: dict[tuple[str, str], Suite] = {
    ("attention", "quick"): Suite(ATTENTION_CHECKED, ATTENTION_QUICK),
    ("attention", "full"): Suite(ATTENTION_CHECKED, ATTENTION_FULL),
    ("attention", "tiny"): Suite(
        [AttentionCase(1, 63, 63, 2, 1, 64, is_causal=True)], [AttentionCase(1, 128, 128, 1, 1, 64)]
    ),
    ("decode", "quick"): Suite(DECODE_CHECKED, DECODE_QUICK),
    ("decode", "full"): Suite(DECODE_CHECKED, DECODE_FULL),
    ("decode", "tiny"): Suite([AttentionCase(1, 1, 100, 2, 1, 64)], [AttentionCase(1, 1, 128, 1, 1, 64)]),
    ("matmul", "quick"): Suite(MATMUL_CHECKED, MATMUL_QUICK),
    ("matmul", "full"): Suite(MATMUL_CHECKED, MATMUL_FULL),
    ("matmul", "tiny"): Suite([MatmulCase(63, 65, 70, bias=True, activation="gelu")], [MatmulCase(128, 128, 128)]),
}

GOALS: dict[tuple[str, AttentionCase | MatmulCase, str], Goal] = {
    ("attention", attention_at(128, 8192, False), "forward"): Goal("ratio", 0.60, 0.80),
    ("attention", attention_at(128, 8192, True), "forward"): Goal("ratio", 0.60, 0.80),
    ("attention", attention_at(128, 8192, False), "backward"): Goal("tflops", 330, 420),
    ("matmul", MATMUL_QUICK[0], "forward"): Goal("ratio", 0.75, 0.90),
    ("decode", DECODE_QUICK[0], "forward"): Goal("share_of_copy", None, 0.6),
}


def first_heads(case: AttentionCase) -> AttentionCase:
    """One example, and the heads of one head of keys: what a reference can do at any length."""
    return replace(case, batch=1, heads=case.heads // case.kv_heads, kv_heads=1)
