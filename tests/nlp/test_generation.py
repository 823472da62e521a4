"""Generation with a state is generation without one, for every decoder: logits at every step, and every search."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import nn, training
from jaxdl.data import sequential_partition
from jaxdl.nlp import (
    GPT,
    AttentionSeq2Seq,
    RNNLanguageModel,
    Seq2Seq,
    Transformer,
    beam_search,
    decoding,
    generate,
    greedy_search,
    next_token_prediction,
    sample,
    translate,
)

VOCAB, EOS, NEW = 11, 3, 6
LENGTHS = np.array([5, 1, 3])
TINY = {"features": 8, "hidden_size": 12, "num_heads": 2, "num_blocks": 2}
WRITERS = {
    "rnn": lambda: RNNLanguageModel(VOCAB, nn.RNN(6)),
    "gru": lambda: RNNLanguageModel(VOCAB, nn.GRU(6), embed_size=4),
    "lstm": lambda: RNNLanguageModel(VOCAB, nn.LSTM(6, 2)),
    "gpt": lambda: GPT(VOCAB, 10, 8, 2, 2),
    "gpt of grouped queries": lambda: GPT(VOCAB, 10, 8, 2, 1, num_kv_heads=1),
}
TRANSLATORS = {
    "seq2seq": lambda: Seq2Seq(VOCAB, VOCAB, 4, 6, 2),
    "seq2seq both ways": lambda: Seq2Seq(VOCAB, VOCAB, 4, 6, 1, 0.0, nn.LSTM, bidirectional=True),
    "attention": lambda: AttentionSeq2Seq(VOCAB, VOCAB, 4, 6, 2),
    "attention both ways": lambda: AttentionSeq2Seq(VOCAB, VOCAB, 4, 6, 1, 0.0, bidirectional=True),
    "transformer": lambda: Transformer(VOCAB, VOCAB, NEW, **TINY),
    "transformer, norms first": lambda: Transformer(VOCAB, VOCAB, NEW, **TINY, pre_norm=True),
}


def ids(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(0, VOCAB, shape), jnp.int32)


PROMPT, FOLLOWING = ids(3, 5), ids(3, NEW - 1, seed=1)


def drawn(model, *inputs):
    """Parameters so large that texts differ."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.7, leaf.dtype), shapes)


class Decoder:
    """One of the models: how it decodes, and its logits of a whole text `[batch, time]` without any state."""

    def __init__(self, name):
        if name in WRITERS:
            self.model = WRITERS[name]()
            self.variables = drawn(self.model, PROMPT)
            self.context = ()
            self.prompt, self.lengths = PROMPT, LENGTHS
        else:
            self.model = TRANSLATORS[name]()
            self.context = ids(3, 4, seed=2), jnp.array([4, 1, 2])  # sources and their lengths
            self.variables = drawn(self.model, *self.context, PROMPT)
            self.prompt, self.lengths = jnp.full((3, 1), 2), np.ones(3, int)

    def decode(self, search, **options):
        if self.context:
            start = self.prompt[:, 0]
            return translate(self.model, self.variables, *self.context, start, search, max_length=NEW, **options)
        return generate(self.model, self.variables, self.prompt, self.lengths, search, max_new_tokens=NEW, **options)

    def logits(self, context, text):
        found = self.model.apply(self.variables, *context, text)
        return found if context else found[0]

    def decode_without_state(self, search, **options):
        """The search over a step that reads the whole text again."""

        def step_fn(state, tokens):
            context, text, at = state
            text = jnp.where(jnp.arange(text.shape[1])[None] == at[:, None], tokens[:, None], text)
            logits = self.logits(context, text)
            return jnp.take_along_axis(logits, at[:, None, None], axis=1)[:, 0], (context, text, at + 1)

        last = jnp.asarray(self.lengths) - 1
        text = jnp.pad(self.prompt, ((0, 0), (0, NEW - 1)))
        start = jnp.take_along_axis(self.prompt, last[:, None], axis=1)[:, 0]
        return search(step_fn, (self.context, text, last), start, max_length=NEW, **options)


def read(step_fn, state, start_tokens, *, max_length, following=FOLLOWING):
    """A "search" that takes what follows as given; returns the logits of each step `[batch, max_length, vocab]`."""

    def step(state, tokens):
        logits, state = step_fn(state, tokens)
        return state, logits

    tokens = jnp.concatenate([start_tokens[:, None], following], axis=1)
    assert tokens.shape[1] == max_length
    return jax.lax.scan(step, state, tokens.T)[1].swapaxes(0, 1)


@pytest.mark.parametrize("name", [*WRITERS, *TRANSLATORS])
def test_with_the_state_is_without_at_every_step(name):
    """Prompts and sources of different lengths, one of them 1, in one batch."""
    decoder = Decoder(name)
    found, expected = jax.jit(lambda: (decoder.decode(read), decoder.decode_without_state(read)))()
    assert np.ptp(expected, axis=1).min() > 5e-4  # the steps differ, or this test could not fail
    np.testing.assert_allclose(found, expected, atol=1e-5)


SEARCHES = {
    "greedy": greedy_search,
    "sample": partial(sample, key=jax.random.key(3), top_k=5),
    "beam": partial(beam_search, beam_size=3),  # reorders the states
}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("lstm", ["sample", "beam"]), ("gpt", list(SEARCHES)), ("attention", ["beam"]), ("transformer", ["beam"])],
)
def test_so_is_every_search(name, kinds):
    decoder = Decoder(name)
    ways = decoder.decode, decoder.decode_without_state
    both = jax.jit(lambda: [[decode(SEARCHES[kind], eos_id=EOS) for kind in kinds] for decode in ways])
    for found, expected in zip(*both(), strict=True):
        np.testing.assert_array_equal(found.tokens, expected.tokens)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


@pytest.mark.parametrize("name", ["lstm", "gpt"])
def test_each_row_is_what_it_is_alone_and_padding_may_be_anything(name):
    decoder = Decoder(name)
    model, variables = decoder.model, decoder.variables
    padding = jnp.arange(5)[None] >= LENGTHS[:, None]
    run = jax.jit(partial(generate, model, search=read, max_new_tokens=NEW))
    together = run(variables, jnp.where(padding, 0, PROMPT), LENGTHS, following=FOLLOWING)
    other = run(
        variables, jnp.where(padding, jnp.array([-1, 99, 7, -5, 2])[None], PROMPT), LENGTHS, following=FOLLOWING
    )
    np.testing.assert_array_equal(together, other)
    for row, length in enumerate(LENGTHS):
        one = slice(row, row + 1)
        alone = run(variables, PROMPT[one, :length], following=FOLLOWING[one])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


@pytest.mark.parametrize("name", ["lstm", "gpt"])
def test_one_compilation_serves_all_prompts_lengths_and_keys(name, compilations):
    decoder = Decoder(name)
    run = jax.jit(partial(generate, decoder.model, search=sample, max_new_tokens=NEW, eos_id=EOS))
    calls = [
        (np.asarray(ids(3, 5, seed=seed)), np.random.default_rng(seed).integers(1, 6, 3), jax.random.key(seed))
        for seed in range(4)
    ]
    before, found = len(compilations), []
    for prompt, lengths, key in calls:
        found.append(run(decoder.variables, prompt, lengths, key=key))
    assert len(compilations) == before + 1
    assert any((one.tokens != found[0].tokens).any() for one in found)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("options", [{}, {"search": sample, "key": jax.random.key(0), "temperature": 2.0}])
def test_caches_that_grow_on_the_way_change_nothing(monkeypatch, lengths, options):
    """Long texts are decoded in stages, which read the first slots of the caches as far as they can be filled."""
    model, capacities = GPT(VOCAB, 20, 8, 2, 1), []
    variables, search = drawn(model, PROMPT), options.get("search", greedy_search)

    def recording(step_fn, state, *args, **rest):
        def step(state, tokens):
            capacities.append(state.capacity)
            return step_fn(state, tokens)

        return search(step, state, *args, **rest)

    def run():
        capacities.clear()
        arguments = options | {"search": recording, "max_new_tokens": 15, "eos_id": None}
        return jax.jit(partial(generate, model, **arguments))(variables, PROMPT, lengths)

    whole = run()
    assert set(capacities) == {19}
    monkeypatch.setattr(decoding, "STAGE", 3)
    staged = run()
    assert sorted(set(capacities)) == [7, 11, 15, 19]
    np.testing.assert_array_equal(staged.tokens, whole.tokens)
    np.testing.assert_allclose(staged.scores, whole.scores, rtol=1e-4)


def test_a_cache_without_room_for_all_steps_gives_no_score(monkeypatch):
    """Nor does one whose first part, with less room, would lose what it holds."""
    model = GPT(VOCAB, 20, 8, 2, 1)
    variables = drawn(model, PROMPT)
    _, state = model.apply(variables, PROMPT, model.empty_state(3, 8))  # 5 slots of 8 are taken

    def step_fn(state, tokens):
        logits, state = model.apply(variables, tokens[:, None], state)
        return logits[:, 0], state

    for stage in (64, 2):
        monkeypatch.setattr(decoding, "STAGE", stage)
        scores = [greedy_search(step_fn, state, PROMPT[:, 0], max_length=n, eos_id=None).scores for n in (3, 4, 8)]
        assert [np.isnan(x).all() for x in scores] == [False, True, True]


def test_half_precision_and_an_empty_batch():
    """The states keep their types, which the searches check."""
    half = jnp.bfloat16
    for model in (GPT(VOCAB, 10, 8, 2, 1, dtype=half), RNNLanguageModel(VOCAB, nn.LSTM(6, dtype=half), dtype=half)):
        variables = jax.eval_shape(model.init, jax.random.key(0), PROMPT)
        for batch in (3, 0):
            run = partial(generate, model, max_new_tokens=NEW, eos_id=EOS)
            found = jax.eval_shape(run, variables, PROMPT[:batch], jnp.asarray(LENGTHS[:batch]))
            assert (found.tokens.shape, found.scores.dtype) == ((batch, NEW), jnp.float32)
    source = ids(3, 4), jnp.array([4, 1, 2])
    for model in (Transformer(VOCAB, VOCAB, NEW, **TINY, dtype=half), Seq2Seq(VOCAB, VOCAB, 4, 6, 1, 0.0, dtype=half)):
        variables = jax.eval_shape(model.init, jax.random.key(0), *source, PROMPT)
        run = partial(translate, model, max_length=NEW, eos_id=EOS)
        assert jax.eval_shape(run, variables, *source, PROMPT[:, 0]).tokens.shape == (3, NEW)


def test_the_caches_are_of_the_type_of_the_parameters(x64):
    decoder = Decoder("gpt of grouped queries")
    decoder.variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), decoder.variables)
    found, expected = jax.jit(lambda: (decoder.decode(read), decoder.decode_without_state(read)))()
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, expected, atol=1e-12)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), decoder.variables)
    run = partial(generate, decoder.model, max_new_tokens=NEW, eos_id=EOS)
    assert jax.eval_shape(run, half, PROMPT).tokens.shape == (3, NEW)


def test_prompts_may_be_lists_or_have_few_bits():
    model = RNNLanguageModel(VOCAB, nn.RNN(6))
    run = partial(generate, model, drawn(model, PROMPT), max_new_tokens=2, eos_id=None)
    prompts = PROMPT, PROMPT.tolist(), PROMPT.astype(jnp.uint8)
    expected, *found = jax.jit(lambda: [run(prompt, LENGTHS).tokens for prompt in prompts])()
    for tokens in found:
        np.testing.assert_array_equal(tokens, expected)
    with pytest.raises(ValueError, match=f"prompt: expected ids .* to {2**32 + 2}"):
        run(np.full(PROMPT.shape, 2**32 + 2), LENGTHS)


def test_it_goes_on_with_what_it_learned():
    """A model that counts: 0 1 2 3 4 0 1 2 ..."""
    model = RNNLanguageModel(5, nn.LSTM(8))
    loss_fn, _ = next_token_prediction(model)
    optimizer = optax.adam(0.05)
    state = training.init_state(lambda key: model.init(key, PROMPT % 5), optimizer, jax.random.key(0))
    data = sequential_partition(np.arange(200) % 5, 8, 4, train=True)
    step = training.jit_step(training.make_step(training.sum_gradients(loss_fn), optimizer))
    state, _ = training.fit(step, state, data, epochs=15, progress=False)
    run = jax.jit(partial(generate, model, max_new_tokens=12, eos_id=None))
    found = run({"params": state.params}, jnp.array([[0, 1, 2], [3, 4, 0]]), jnp.array([3, 2]))
    np.testing.assert_array_equal(found.tokens, [(3 + np.arange(12)) % 5, np.arange(12) % 5])


class TestErrors:
    def gpt(self):
        decoder = Decoder("gpt")  # reads 10 tokens
        return partial(generate, decoder.model, decoder.variables)

    def test_no_room_for_prompt_and_new_tokens(self):
        run = self.gpt()
        jax.eval_shape(lambda: run(PROMPT, max_new_tokens=6, eos_id=None))  # 5 + 5, the last is not read
        for time, new in ((5, 7), (11, 1)):
            message = rf"max_new_tokens: the model reads 10 tokens at most .* a prompt of {time} and {new} new tokens"
            with pytest.raises(ValueError, match=message):
                jax.eval_shape(lambda time=time, new=new: run(ids(3, time), max_new_tokens=new, eos_id=None))

    @pytest.mark.parametrize("search", [greedy_search, partial(beam_search, beam_size=2)])
    def test_no_room_for_the_translation(self, search):
        decoder = Decoder("transformer")
        run = partial(translate, decoder.model, decoder.variables, *decoder.context, jnp.full(3, 2), search)
        jax.eval_shape(lambda: run(max_length=NEW, eos_id=EOS))
        with pytest.raises(ValueError, match="max_length: expected at most 6, the tokens that the state holds; got 7"):
            jax.eval_shape(lambda: run(max_length=NEW + 1, eos_id=EOS))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((ids(3),), r"prompt: expected integers \[batch, time\] of at least 1 step, got \[3\]"),
            ((ids(3, 0),), r"prompt: .* of at least 1 step, got \[3, 0\]"),
            (([[]],), r"prompt: .* of at least 1 step, got \[1, 0\]"),
            ((PROMPT * 1.0,), r"prompt: expected integers \[batch, time\], got float32\[3, 5\]"),
            ((PROMPT.at[1, 4].set(VOCAB),), r"prompt: expected ids in \[0, 11\), got 0 to 11"),
            ((PROMPT.at[0, 2].set(-1), LENGTHS), r"prompt: expected ids in \[0, 11\), got -1"),
            ((PROMPT, LENGTHS[:2]), r"lengths: expected integers \[3\], got int64\[2\]"),
            ((PROMPT, LENGTHS * 1.0), r"lengths: expected integers \[3\], got float64\[3\]"),
            ((PROMPT, LENGTHS - 1), r"lengths: expected numbers in \[1, 5\], the padded size; got 0"),
            ((PROMPT, [6, 1, 1]), r"lengths: expected numbers in \[1, 5\], the padded size; got 6"),
        ],
    )
    def test_of_prompts(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            self.gpt()(*arguments, max_new_tokens=2, eos_id=None)

    def test_of_options(self):
        with pytest.raises(ValueError, match="max_new_tokens: expected at least 1, got 0"):
            self.gpt()(PROMPT, max_new_tokens=0, eos_id=None)
        with pytest.raises(ValueError, match=r"eos_id: expected an id in \[0, 11\), got 11"):
            self.gpt()(PROMPT, max_new_tokens=2, eos_id=VOCAB)
        with pytest.raises(TypeError, match="beam"):
            self.gpt()(PROMPT, max_new_tokens=2, eos_id=None, beam=4)

    @pytest.mark.parametrize("name", ["lstm", "gpt"])
    def test_in_compiled_code_a_bad_row_scores_nan_and_the_others_are_as_ever(self, name):
        decoder = Decoder(name)
        run = jax.jit(partial(generate, decoder.model, max_new_tokens=4, eos_id=None))
        good = run(decoder.variables, PROMPT, jnp.asarray(LENGTHS))
        for prompt, lengths in (
            (PROMPT, LENGTHS + np.array([1, 0, 0])),
            (PROMPT, LENGTHS * [0, 1, 1]),
            (PROMPT.at[0, 1].set(VOCAB), LENGTHS),
        ):
            found = run(decoder.variables, prompt, jnp.asarray(lengths))
            assert np.isnan(found.scores[0])
            np.testing.assert_array_equal(found.tokens[1:], good.tokens[1:])
            np.testing.assert_array_equal(found.scores[1:], good.scores[1:])
