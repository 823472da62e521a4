r"""Translation by attention alone (D2L 11.7): numbers in words, or English to French.

    python examples/ch11_transformer.py
    python examples/ch11_transformer.py --strategy tensor --precision bfloat16
    python examples/ch11_transformer.py --data fra_eng --recipe book --train-split "train[:512]" \
        --eval-split "train[512:640]" --epochs 30 --learning-rate 0.001 --features 256 --hidden-size 64

Data and recipes are those of ch10_translation. After two epochs the default gets 0.999 of 1,000 held-out numbers right
to the last word (exact match 1.000, 0.997 and 1.000, seeds 0 to 2; in bfloat16 1.000, seed 0), in 17 s on two
cores of an AMD EPYC with jax 0.10.2. Three pictures show for one number where the encoder looks, and where
the decoder looks in what it has written and in the source, in every block and head. Before "soixante-quinze" all eight
heads that look at the source look most at "seventy-five", and one of them, head 0 of block 0, reads the number word by
word. A table at the end compares what attention, convolution and recurrence cost (D2L 11.6): attention alone grows with
the square of the length.

The third command is the book's recipe on its 512 pairs, 41 s of processor time. BLEU-2 on the next 128 pairs is 0.239
(0.221 to 0.256, seeds 0 to 7), the same recipe in PyTorch 0.251 (0.228 to 0.268; `benchmarks/quality.py`), no better
than the recurrent networks of ch10_translation: so few pairs teach words, and the maps of attention stay pale. Of the
four training sentences that the book translates, two come out right.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ch10_translation as translation
import ch11_bahdanau as bahdanau
import jax
import jax.numpy as jnp

from jaxdl import experiment, nlp, nn, plotting, training


@dataclass(frozen=True)
class Config(translation.TranslationConfig):
    """Trains a transformer from English to French."""

    epochs: int = 2
    learning_rate: float = 3e-3
    """Of Adam; the modern recipe warms up to it and ends at zero."""
    recipe: Literal["modern", "book"] = "modern"
    """Norms before each layer, no dropout; or the book's: norms after it, dropout, and a constant learning rate."""
    features: int = 64
    """Of a token."""
    hidden_size: int = 128
    """Of the position-wise networks."""
    num_heads: int = 4
    """Of each attention."""
    num_blocks: int = 2
    """Of the encoder, and of the decoder."""


def make_model(config: Config, task: translation.Task) -> nlp.Transformer:
    """The network of a recipe."""
    book = config.recipe == "book"
    return nlp.Transformer(
        *map(len, task.vocabs),
        max_length=max(arrays["target"].shape[1] - 1 for arrays in (task.train, task.evaluation)),
        features=config.features,
        hidden_size=config.hidden_size,
        num_heads=config.num_heads,
        num_blocks=config.num_blocks,
        dropout_rate=0.2 if book else 0.0,
        pre_norm=not book,
        dtype=experiment.compute_dtype(config),
    )


def layer_costs(features: int, lengths: tuple[int, ...] = (16, 64, 256, 1024)) -> dict[str, list[int]]:
    """Floating-point operations of one layer over so many steps, as traced (D2L 11.6)."""
    layers: dict[str, Any] = {
        "convolution, 3 wide": nn.Conv(features, (3,)),
        "recurrent": nn.RNN(features),
        "self-attention": nn.MultiHeadAttention(1),
    }

    def cost(layer: Any, length: int) -> int:
        x = jax.ShapeDtypeStruct((1, length, features), jnp.float32)
        return training.count_flops(layer.apply, jax.eval_shape(layer.init, jax.random.key(0), x), x)

    return {name: [cost(layer, length) for length in lengths] for name, layer in layers.items()}


def print_costs(features: int) -> None:
    """Attention alone grows with the square of the length; it also sees all steps at once, in one layer."""
    lengths = (16, 64, 256, 1024)
    print(f"\nWhat a layer of {features} features costs, in operations a step, at lengths n:")
    print(f"{'':20}" + "".join(f"{n:>10,}" for n in lengths) + f"{'in sequence':>14}{'from end to end':>18}")
    passages = ("1", "n / 2 layers"), ("n steps", "n steps"), ("1", "1 layer")
    for (name, costs), (sequence, path) in zip(layer_costs(features, lengths).items(), passages, strict=True):
        per_step = "".join(f"{cost // n:>10,}" for cost, n in zip(costs, lengths, strict=True))
        print(f"{name:20}{per_step}{sequence:>14}{path:>18}")


def draw(model: nlp.Transformer, params: Any, task: translation.Task, found: nlp.Decoded, folder: Path) -> None:
    """Draws the three kinds of attention in every block and head, for the longest of the sentences shown."""
    arrays = task.shown_arrays
    sown = bahdanau.attention(model, params, arrays, found.tokens)
    row = int(arrays["source_length"].argmax())
    (english,) = bahdanau.words(arrays["source"][[row]], arrays["source_length"][[row]], task.vocabs[0])
    (french,) = bahdanau.words(found.tokens[row][None], found.lengths[row][None], task.vocabs[1])
    before = ["<bos>", *french[:-1]]
    source, written, next_word = "English, looked at", "French, written before", "French, the next word"
    for side, name, keys, queries, xlabel, ylabel, title in (
        ("encoder", "attention", english, english, source, "English", "Where each word of the source looks"),
        ("decoder", "attention", before, french, written, next_word, "Where the decoder looks in what it has written"),
        ("decoder", "cross_attention", english, french, source, next_word, "Where the decoder looks in the source"),
    ):
        blocks = [sown[side][f"block_{i}"][name]["attention_weights"][0][row] for i in range(model.num_blocks)]
        path = folder / f"{side}_{name}.png"
        plotting.attention_heatmaps(
            jnp.stack(blocks)[:, :, : len(queries), : len(keys)],
            path,
            keys=keys,
            queries=queries,
            titles=[f"block {i}, head {j}" for i in range(model.num_blocks) for j in range(model.num_heads)],
            xlabel=xlabel,
            ylabel=ylabel,
            title=title,
            panel_size=(2.9, 2.9),
        )
        print(f"attention: {path}")


def main(config: Config) -> dict[str, float]:
    """Trains, prints translations, draws attention, and returns the last row of the history."""
    task = translation.prepare(config)
    model = make_model(config, task)
    params, row, folder = translation.train("ch11_transformer", config, model, task, tensor_parallel=nn.TENSOR_PARALLEL)
    found = translation.translate_and_print(config, model, params, task)
    draw(model, params, task, found, folder)
    print_costs(config.features)
    return row


if __name__ == "__main__":
    main(experiment.parse_flags(Config))
