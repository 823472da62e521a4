"""The transformer: the book's counts, PyTorch's numbers, padding, and decoding with caches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import nn
from jaxdl.nlp import (
    GPT,
    AttentionSeq2Seq,
    BERTEncoder,
    Transformer,
    TransformerDecoder,
    TransformerEncoder,
    beam_search,
    greedy_search,
    teacher_forcing,
    translate,
)

TINY = {"features": 8, "hidden_size": 12, "num_heads": 2, "num_blocks": 2}


def tokens(*shape, seed=0, vocab_size=11):
    return jnp.asarray(np.random.default_rng(seed).integers(2, vocab_size, shape))


def test_the_encoder_of_the_book():
    """D2L 11.7: vocabulary 200, 24 features, 48 hidden, 8 heads, 2 blocks: 14,352 parameters."""
    encoder = TransformerEncoder(200, 24, 48, 8, 2, 0.5)
    output, variables = jax.eval_shape(
        lambda: encoder.init_with_output(jax.random.key(0), jnp.ones((2, 100), jnp.int32), jnp.array([3, 2]))
    )
    assert output.shape == (2, 100, 24)
    assert nn.parameter_count(variables) == 14_352


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("pre_norm", [False, True])
def test_equals_pytorch(pre_norm, x64):
    """`nn.Transformer` with copied weights behind the same embeddings: source and target padded, target causal."""
    torch = pytest.importorskip("torch")
    model = Transformer(11, 13, **TINY, pre_norm=pre_norm, use_bias=True, dropout_rate=0.0)
    source, target = tokens(2, 5), tokens(2, 4, seed=1)
    lengths = jnp.array([5, 3])
    params = model.init(jax.random.key(0), source, lengths, target)["params"]
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(2)
    params = jax.tree.unflatten(tree, [jnp.asarray(rng.standard_normal(leaf.shape) * 0.5) for leaf in leaves])

    theirs = torch.nn.Transformer(
        8, 2, 2, 2, 12, dropout=0.0, batch_first=True, norm_first=pre_norm, dtype=torch.float64
    )
    if not pre_norm:
        theirs.encoder.norm = theirs.decoder.norm = None
    state = {}

    def dense(name, ours):
        state[f"{name}.weight"], state[f"{name}.bias"] = ours["kernel"].T, ours["bias"]

    def norm(name, ours):
        state[f"{name}.weight"], state[f"{name}.bias"] = ours["scale"], ours["bias"]

    def attention(name, ours):
        heads = [ours[part] for part in ("query", "key", "value")]
        state[f"{name}.in_proj_weight"] = jnp.concatenate([part["kernel"].T for part in heads])
        state[f"{name}.in_proj_bias"] = jnp.concatenate([part["bias"] for part in heads])
        dense(f"{name}.out_proj", ours["out"])

    for side in ("encoder", "decoder"):
        for i in range(2):
            ours, name = params[side][f"block_{i}"], f"{side}.layers.{i}"
            attention(f"{name}.self_attn", ours["attention"])
            dense(f"{name}.linear1", ours["feed_forward"]["hidden"])
            dense(f"{name}.linear2", ours["feed_forward"]["out"])
            norms = ["attention_norm", "cross_attention_norm", "feed_forward_norm"]
            if side == "decoder":
                attention(f"{name}.multihead_attn", ours["cross_attention"])
            else:
                norms.remove("cross_attention_norm")
            for number, each in enumerate(norms, 1):
                norm(f"{name}.norm{number}", ours[each])
        if pre_norm:
            norm(f"{side}.norm", params[side]["norm"])
    theirs.load_state_dict({name: torch.tensor(np.asarray(x)) for name, x in state.items()})

    def embedded(side, ids):
        table = params[side]["embedded"]["tokens"]["embedding"]
        return torch.tensor(np.asarray(table[ids] * 8**0.5 + nn.sinusoidal_positions(ids.shape[1], 8)[None]))

    padding = torch.tensor(np.arange(5)[None] >= np.asarray(lengths)[:, None])
    expected = theirs(
        embedded("encoder", source), embedded("decoder", target), src_key_padding_mask=padding,
        memory_key_padding_mask=padding, tgt_mask=torch.tensor(np.triu(np.ones((4, 4), bool), 1)),
    )  # fmt: skip
    expected = (
        expected.detach().numpy() @ params["decoder"]["output"]["kernel"]
        + params["decoder"]["output"]["bias"][None, None]
    )
    np.testing.assert_allclose(model.apply({"params": params}, source, lengths, target), expected, atol=1e-10)


@pytest.fixture(scope="module")
def translator():
    model = Transformer(11, 11, 7, **TINY)
    source, lengths = tokens(3, 6), jnp.array([6, 2, 4])
    return model, model.init(jax.random.key(0), source, lengths, source), source, lengths


def test_padding_changes_nothing(translator):
    model, variables, source, lengths = translator
    other = jnp.where(jnp.arange(6)[None] < lengths[:, None], source, -1)
    target = tokens(3, 5, seed=3)
    forward = jax.jit(lambda source: model.apply(variables, source, lengths, target))
    assert (other != source).any()
    np.testing.assert_array_equal(forward(source), forward(other))
    encoder, params = TransformerEncoder(11, **TINY), {"params": variables["params"]["encoder"]}
    inside = jnp.arange(6)[None, :, None] < lengths[:, None, None]
    first, second = (jnp.where(inside, encoder.apply(params, each, lengths), 0) for each in (source, other))
    np.testing.assert_array_equal(first, second)
    later = forward(source)
    changed = model.apply(variables, source, lengths, target.at[:, 3:].set(5))
    np.testing.assert_allclose(changed[:, :3], later[:, :3], atol=1e-6)
    assert np.abs(changed[:, 3:] - later[:, 3:]).max() > 1e-3


def test_it_takes_an_implementation_of_attention(translator):
    """In the encoder, and in both attentions of the decoder, with caches too."""
    model, variables, source, lengths = translator
    blockwise, target = model.clone(implementation="blockwise"), tokens(3, 7, seed=4)
    expected = model.apply(variables, source, lengths, target)
    np.testing.assert_allclose(blockwise.apply(variables, source, lengths, target), expected, atol=1e-5)
    state = blockwise.apply(variables, source, lengths, method="encode")
    np.testing.assert_allclose(blockwise.apply(variables, state, target, method="decode")[0], expected, atol=1e-5)
    unknown = model.clone(implementation="fast")
    for call in (
        lambda: unknown.apply(variables, source, lengths, method="encode"),
        lambda: unknown.apply(variables, state, target, method="decode"),
    ):
        with pytest.raises(ValueError, match="implementation: expected"):
            call()


def test_decoding_with_caches_is_decoding_without(translator, compilations):
    """Each step of `decode_step` gives the logits that teacher forcing gives of the same tokens."""
    model, variables, source, lengths = translator
    target = tokens(3, 7, seed=4)
    whole = model.apply(variables, source, lengths, target)
    state = model.apply(variables, source, lengths, method="encode")
    step = jax.jit(lambda state, tokens: model.apply(variables, state, tokens, method="decode_step"))
    target, whole = np.asarray(target), np.asarray(whole)
    for t in range(7):
        before = len(compilations)
        logits, state = step(state, target[:, t])
        assert t == 0 or len(compilations) == before
        np.testing.assert_allclose(logits, whole[:, t], atol=1e-5)


def test_the_searches_and_the_loss_take_it(translator):
    model, variables, source, lengths = translator
    search = partial(greedy_search, max_length=7, eos_id=3)
    run = jax.jit(partial(translate, model, search=search))
    found = run(variables, source, lengths, jnp.full(3, 2))
    logits = model.apply(variables, source, lengths, jnp.concatenate([jnp.full((3, 1), 2), found.tokens[:, :-1]], 1))
    inside = jnp.arange(7)[None] < found.lengths[:, None]
    np.testing.assert_array_equal(jnp.where(inside, logits.argmax(-1), 0), jnp.where(inside, found.tokens, 0))
    wide = jax.jit(partial(translate, model, search=partial(beam_search, beam_size=3, max_length=7, eos_id=3)))
    assert (wide(variables, source, lengths, jnp.full(3, 2)).scores[:, 0] >= found.scores - 1e-5).all()

    loss_fn, eval_fn = teacher_forcing(model)
    batch = {"source": source, "source_length": lengths, "target": tokens(3, 8), "target_length": jnp.array([7, 2, 5])}
    loss, _ = loss_fn(variables["params"], {}, batch, jax.random.key(0))
    assert loss.count == 14
    assert {"loss", "accuracy", "bleu", "exact_match"} <= set(eval_fn(variables["params"], {}, batch))
    with pytest.raises(ValueError, match="max_length: expected at most 7, the tokens that the state holds; got 8"):
        jax.eval_shape(eval_fn, variables["params"], {}, batch | {"target": tokens(3, 9)})


@pytest.mark.parametrize("num_kv_heads", [None, 1])
def test_gpt_with_caches_is_gpt_without(num_kv_heads, compilations):
    model, text = GPT(11, 9, 8, 2, 2, num_kv_heads=num_kv_heads), tokens(2, 9)
    variables = model.init(jax.random.key(0), text)
    whole, nothing = model.apply(variables, text)
    assert nothing is None
    step = jax.jit(model.apply)
    logits, state = step(variables, text[:, :4], model.empty_state(2))
    np.testing.assert_allclose(logits, whole[:, :4], atol=1e-5)
    text, whole = np.asarray(text), np.asarray(whole)
    for t in range(4, 9):
        before = len(compilations)
        logits, state = step(variables, text[:, t : t + 1], state)
        assert t == 4 or len(compilations) == before
        np.testing.assert_allclose(np.asarray(logits)[:, 0], whole[:, t], atol=1e-5)
    np.testing.assert_array_equal(state.position, [9, 9])
    assert state.capacity == 9
    assert np.isnan(step(variables, text[:, :1], state)[0]).all()  # no room is left: not a wrong word


def test_gpt_reads_texts_of_different_lengths_in_parts():
    """What stands behind the lengths of each part takes room in the caches, and is never seen."""
    model, text = GPT(11, 9, 8, 2, 2), tokens(2, 9)
    variables = model.init(jax.random.key(0), text)
    whole, _ = model.apply(variables, text)
    read = jax.jit(model.apply)
    _, state = read(variables, text[:, :4], model.empty_state(2), jnp.array([4, 1]))
    second = jnp.stack([text[0, 4:7], text[1, 1:4]])
    logits, state = read(variables, second, state, jnp.array([1, 3]))
    np.testing.assert_allclose(logits[0, :1], whole[0, 4:5], atol=1e-5)
    np.testing.assert_allclose(logits[1], whole[1, 1:4], atol=1e-5)
    logits, state = read(variables, jnp.stack([text[0, 5:7], text[1, 4:6]]), state)
    np.testing.assert_allclose(logits, jnp.stack([whole[0, 5:7], whole[1, 4:6]]), atol=1e-5)
    np.testing.assert_array_equal(state.position, [7, 6])


def decoder_with_caches(number):
    cache = nn.KVCache.empty(1, 4, 2, 4)
    return TransformerDecoder(5, **TINY).init(
        jax.random.key(0), jnp.ones((1, 1), int), jnp.ones((1, 2, 8)), None, (cache,) * number
    )


def reads(lengths):
    return Transformer(5, 5, **TINY).init(jax.random.key(0), jnp.ones((1, 3), int), lengths, method="encode")


ERRORS = {
    "features: expected at least 1": lambda: Transformer(5, 5, features=0),
    "num_heads: expected a divisor of 8 features, got 3": lambda: Transformer(5, 5, features=8, num_heads=3),
    "vocab_size: expected at least 1": lambda: GPT(0),
    "num_heads: expected a divisor of 10": lambda: GPT(5, features=10),
    "tokens: expected at most 4 a text": lambda: GPT(5, 4).init(jax.random.key(0), jnp.ones((1, 5), int)),
    "tokens: expected integers": lambda: GPT(5, 4).init(jax.random.key(0), jnp.ones((1, 3))),
    "length: expected 1 to max_length 4, got 5": lambda: GPT(5, 4).empty_state(1, 5),
    "lengths: expected a state with them": lambda: GPT(5, 4).init(
        jax.random.key(0), jnp.ones((1, 3), int), None, jnp.ones(1, int)
    ),
    r"lengths: expected integers \[1\], got int32\[2\]": lambda: GPT(5, 4).init(
        jax.random.key(0), jnp.ones((1, 3), int), GPT(5, 4).empty_state(1), jnp.ones(2, int)
    ),
    "hidden_size: expected at least 1, got 0": lambda: Transformer(5, 5, hidden_size=0),
    r"dropout_rate: expected a number in \[0, 1\), got 2.0": lambda: Transformer(5, 5, dropout_rate=2.0),
    r"dropout_rate: expected a number in \[0, 1\), got 1.0": lambda: GPT(5, dropout_rate=1.0),
    r"dropout_rate: expected a number in \[0, 1\), got -1.0": lambda: BERTEncoder(5, dropout_rate=-1.0),
    "num_kv_heads: expected a divisor of 4 heads, got 3": lambda: GPT(5, num_heads=4, num_kv_heads=3),
    "hidden_size: expected at least 1, got 0.*": lambda: GPT(5, hidden_size=0),
    "num_kv_heads: expected at least 1, got 0": lambda: GPT(5, num_kv_heads=0),
    r"state: expected one of \[rows, blocks\] \[2, 4\], got \[1, 4\]": lambda: GPT(5, 4).init(
        jax.random.key(0), jnp.ones((2, 3), int), GPT(5, 4).empty_state(1)
    ),
    r"state: expected one of \[rows, blocks\] \[1, 4\], got \[1, 3\]": lambda: GPT(5, 4).init(
        jax.random.key(0), jnp.ones((1, 3), int), GPT(5, 4, num_blocks=3).empty_state(1)
    ),
    "caches: expected one for each of 2 blocks, got 0": lambda: decoder_with_caches(0),
    "caches: expected one for each of 2 blocks, got 3": lambda: decoder_with_caches(3),
    r"source_length: expected integers \[1\], got int32\[2\]": lambda: reads(jnp.ones(2, int)),
    r"source_length: expected integers \[1\], got float32\[1\]": lambda: reads(jnp.ones(1)),
    r"source_length: expected numbers in \[0, 3\], the padded size; got 4": lambda: reads(jnp.array([4])),
    r"source_length: expected numbers in \[0, 3\], the padded size; got -1": lambda: reads(jnp.array([-1])),
    "target_inputs: expected integers": lambda: Transformer(5, 5).init(
        jax.random.key(0), jnp.ones((1, 3), int), jnp.ones(1, int), jnp.ones((1, 3))
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    with pytest.raises(ValueError, match=message):
        ERRORS[message]()


def test_ids_outside_the_vocabulary_are_never_another_word():
    """An error where the ids are known, NaN in compiled code: also for negative ones, which index from the end."""
    good, lengths = jnp.zeros((1, 2), int), jnp.array([2])
    gpt, model = GPT(5, 4, 8, 2, 1), Transformer(5, 5, 4, **TINY)
    bert, attention = BERTEncoder(5, 4, 8, 2, 1), AttentionSeq2Seq(5, 5, 4, 6, 1, 0.0)
    calls = {
        gpt: lambda variables, ids: gpt.apply(variables, ids)[0],
        bert: bert.apply,
        model: lambda variables, ids: model.apply(variables, good, lengths, ids),
        attention: lambda variables, ids: attention.apply(variables, good, lengths, ids),
    }
    for each, call in calls.items():
        inputs = (good,) if each in (gpt, bert) else (good, lengths, good)
        variables = each.init(jax.random.key(0), *inputs)
        for bad in (-1, 5):
            ids = good.at[0, 1].set(bad)
            with pytest.raises(ValueError, match=r"expected ids in \[0, 5\)"):
                call(variables, ids)
            assert np.isnan(jax.jit(call)(variables, ids)[0, 1]).all()
