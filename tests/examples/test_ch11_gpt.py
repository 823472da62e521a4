"""The GPT learns a text, does not learn a shuffled one, goes on with prompts, and heeds every flag."""

from dataclasses import replace

import ch11_gpt
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdl import experiment, nlp, nn

TINY = {"features": 16, "num_heads": 2, "num_blocks": 1, "num_steps": 32, "batch_size": 16, "num_generated": 4}
FEW = {"train_split": "train[:1200]", "eval_split": "test[:300]"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the example in a folder of its own; without text, which takes longer to compile than to train."""
    monkeypatch.chdir(tmp_path)

    def run(*, generate=False, **fields):
        if not generate:
            monkeypatch.setattr(ch11_gpt, "continue_texts", lambda model, params, vocab, config: config.prompts)
            monkeypatch.setattr(ch11_gpt, "loss_by_context", lambda model, state, data: (np.ones(1), np.zeros(1)))
        return ch11_gpt.main(ch11_gpt.Config(**{"epochs": 1, "prompts": ("it",), **TINY, **FEW, **fields}))

    return run


def entropy_bound(text):
    """The loss of knowing how often each character comes, and nothing else."""
    _, counts = np.unique(list(text), return_counts=True)
    p = counts / counts.sum()
    return float(-(p * np.log(p)).sum())


def test_it_leaves_its_record_and_goes_on_with_every_prompt(run, tmp_path, capsys, monkeypatch):
    found = []
    original = ch11_gpt.loss_by_context

    def record(model, state, data):
        lengths = np.concatenate([batch["length"] for batch in data.batches(0)])
        found.append((*original(model, state, data), (np.arange(32) < lengths[:, None]).sum(0)))
        return found[0][:2]

    monkeypatch.setattr(ch11_gpt, "loss_by_context", record)
    row = run(generate=True, prompts=("it", "The element is"))
    assert row["step"] == 2
    assert row["eval_perplexity"] == pytest.approx(np.exp(row["eval_loss"]), rel=1e-6)
    out = capsys.readouterr().out
    assert "1,200 characters to train, 300 to evaluate" in out
    for prompt in ("it", "The element is"):
        assert f"[{prompt}]" in out
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} == {"curve.png", "context.png", "history.csv", "checkpoints"}
    seen, losses, counts = found[0]  # the mean over what each range counts is the loss
    assert seen.tolist() == [1, 2, 4, 8, 16]
    assert counts.sum() == 299
    weights = [counts[first - 1 : last].sum() for first, last in ((1, 1), (2, 3), (4, 7), (8, 15), (16, 32))]
    assert np.average(losses, weights=weights) == pytest.approx(row["eval_loss"], rel=1e-5)


def test_every_prompt_goes_on_as_it_would_alone():
    """Greedily, from parameters at random that make texts differ."""
    vocab = ch11_gpt.Vocab.from_corpus("abcdefghij")
    model = ch11_gpt.make_model(ch11_gpt.Config(**TINY, prompts=("a",)), len(vocab))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32))["params"]
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes)

    def texts(*prompts):
        config = ch11_gpt.Config(**TINY, prompts=prompts, temperature=1e-6)
        return ch11_gpt.continue_texts(model, params, vocab, config)

    together = texts("abc", "jihgfed")
    assert together == [*texts("abc"), *texts("jihgfed")]
    assert together[0] != together[1]


@pytest.mark.parametrize("strategies", [("tensor",), pytest.param(("pmap", "shard", "fsdp"), marks=pytest.mark.slow)])
def test_every_strategy_takes_the_same_steps(x64, strategies):
    """In float64, two steps of SGD: on eight devices as on one, to 1e-12. The script's clip would hide a scale."""
    tokens = np.random.default_rng(0).integers(0, 29, (16, 9)).astype(np.int32)  # 29 do not divide over 2 devices
    batch = {"tokens": tokens, "mask": np.r_[np.ones(13), np.zeros(3)].astype(np.float32)}
    optimizer = optax.sgd(0.5)
    config = ch11_gpt.Config(**TINY, prompts=("a",))
    model = ch11_gpt.make_model(config, 29).clone(dtype=None)  # of the parameters
    loss_fn, _ = nlp.next_token_prediction(model)

    def init(key):
        return jax.tree.map(lambda x: x.astype(jnp.float64), model.init(key, tokens[:, :-1]))

    start, ends = experiment.init_state(init, optimizer, config), {}
    for strategy in ("single", *strategies):
        config = replace(config, strategy=strategy)
        step = experiment.make_step(loss_fn, optimizer, config)
        compiled = experiment.compile_step(step, config, tensor_parallel=nn.TENSOR_PARALLEL)
        state = compiled.place_state(start)
        for _ in range(2):
            state, _ = compiled(state, compiled.place_batch(batch))
        if strategy == "tensor":
            query = state.params["block_0"]["attention"]["query"]["kernel"]
            assert query.sharding.shard_shape(query.shape) == (16, 8)
        ends[strategy] = jax.device_get(state.params)
    assert not np.allclose(start.params["tokens"]["embedding"], ends["single"]["tokens"]["embedding"], rtol=1e-3)
    for end in ends.values():
        chex.assert_trees_all_close(end, ends["single"], rtol=0, atol=1e-12)


def test_only_kernels_decay():
    """With no gradient AdamW moves what decays, and nothing else."""
    config = ch11_gpt.Config(**TINY, prompts=("a",))
    model = ch11_gpt.make_model(config, 29)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 4), jnp.int32))["params"]
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    optimizer = ch11_gpt.make_optimizer(config, 10)
    zeros = jax.tree.map(np.zeros_like, params)
    updates = jax.jit(lambda params: optimizer.update(zeros, optimizer.init(params), params)[0])(params)
    names = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf).any()
             for path, leaf in jax.tree_util.tree_leaves_with_path(updates)}  # fmt: skip
    assert {name for name, moved in names.items() if moved} == {name for name in names if name.endswith("kernel")}
    assert {"tokens/embedding", "positions/embedding", "norm/scale", "block_0/feed_forward/hidden/bias"} < set(names)


def test_the_flags_are_honoured(run, tmp_path):
    """Going on from a checkpoint, under another strategy too, is ch11_transformer's."""
    files = {"checkpoint_dir": tmp_path / "ck", "plot": tmp_path / "curve.pdf", "log_dir": tmp_path / "log"}
    row = run(strategy="tensor", precision="bfloat16", accumulate=2, dropout_rate=0.1, **files)
    assert row["step"] == 2
    assert 1 < row["eval_perplexity"] < 200
    assert (tmp_path / "ck" / "2").is_dir()
    assert (tmp_path / "curve.pdf").is_file()
    assert list((tmp_path / "log").iterdir())


def test_prompts_are_cleaned_as_their_text_is(run, monkeypatch):
    """The Time Machine has small letters only; the default prompts do not."""
    monkeypatch.setattr(ch11_gpt, "read_text", lambda name, split: "an exception is raised at the end of time " * 20)

    def stop(config, vocab_size):
        raise InterruptedError(config.prompts)

    monkeypatch.setattr(ch11_gpt, "make_model", stop)
    with pytest.raises(InterruptedError, match="'the ', 'an exception is'"):
        run(data="time_machine", prompts=("The ", "An exception is"))


def test_flags_that_make_no_sense_are_refused(run):
    for fields, message in (
        ({"prompts": ()}, r"prompts: expected one or more, of at least one character each, got \(\)"),
        ({"prompts": ("a", "")}, "prompts: expected one or more"),
        ({"num_generated": 0}, "num_generated: expected at least 1, got 0"),
        ({"num_generated": 128}, "num_generated: with the longest prompt 156 characters, more than num_steps 128"),
        ({"temperature": 0.0}, "temperature: expected a finite number above 0, got 0.0"),
        ({"weight_decay": -1.0}, "weight_decay: expected 0 or more, got -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            ch11_gpt.Config(**fields)
    with pytest.raises(ValueError, match=r"prompts: expected characters of the training text, got \['é'\]"):
        run(prompts=("é",))
    with pytest.raises(ValueError, match="num_heads: expected a divisor of 16 features, got 3"):
        run(num_heads=3)


@pytest.mark.slow
@pytest.mark.parametrize("shuffle", [False, True])
def test_it_learns_unless_the_text_is_shuffled(run, monkeypatch, shuffle):
    """Below what the frequencies of characters give; of a shuffled text there is no more to know."""

    def read_text(name, split):
        text = original(name, split)
        return "".join(np.random.default_rng(0).permutation(list(text))) if shuffle else text

    original = ch11_gpt.read_text
    monkeypatch.setattr(ch11_gpt, "read_text", read_text)
    splits = {"train_split": "train[:80000]", "eval_split": "test[:4000]"}
    row = run(epochs=8, features=32, num_blocks=2, learning_rate=5e-3, **splits)
    bound = entropy_bound(original("pydoc", "test[:4000]"))
    if shuffle:
        assert row["eval_loss"] > 0.97 * bound
    else:
        assert row["eval_loss"] < 0.75 * bound
