"""BERT models as Hugging Face keeps them: `config.json` and `model.safetensors` in a folder."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxdl.nlp.bert import BERTEncoder
from jaxdl.nn import torch_weights

_FIELDS = {
    "vocab_size": "vocab_size",
    "max_length": "max_position_embeddings",
    "features": "hidden_size",
    "num_heads": "num_attention_heads",
    "num_blocks": "num_hidden_layers",
    "hidden_size": "intermediate_size",
    "num_segments": "type_vocab_size",
    "dropout_rate": "hidden_dropout_prob",
    "epsilon": "layer_norm_eps",
}
_EXPECTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
_NOT_OURS = ("pooler.", "embeddings.position_ids")  # the positions are 0, 1, ...


def load_bert(folder: str | PathLike[str], *, dtype: Any = None) -> tuple[BERTEncoder, Any]:
    """Reads a trained BERT encoder.

    Args:
      folder: with `config.json` and `model.safetensors`, of a `BertModel` or of a model with heads around one. Pooler
        and heads are left out.
      dtype: of the weights; None is float32.

    Returns:
      The model, with one dropout rate for all (the config's for hidden layers), and its variables.

    Raises:
      FileNotFoundError: if a file is not there.
      ValueError: if a file is damaged, the config is of a model that `BERTEncoder` is not, or the weights do not fit.
    """
    folder = Path(folder)
    model = _model(folder / "config.json")
    state = torch_weights.read(folder / "model.safetensors")
    if any(name.startswith("bert.") for name in state):  # what is outside are heads
        state = {name.removeprefix("bert."): x for name, x in state.items() if name.startswith("bert.")}
    state = {_modern(name): x for name, x in state.items() if not name.startswith(_NOT_OURS)}
    like = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    return model, torch_weights.convert(state, like, bert_names(model), dtype=dtype)


def bert_names(model: BERTEncoder) -> dict[str, str]:
    """The name in Hugging Face's `BertModel` of each layer of a `BERTEncoder`, for `torch_weights.convert`.

    The state of a `BertModel` also has a `pooler` and, in old files, `embeddings.position_ids`, which are not ours:
    take them out first, as `load_bert` does.
    """
    names = {
        "tokens": "embeddings.word_embeddings",
        "segments": "embeddings.token_type_embeddings",
        "positions": "embeddings.position_embeddings",
        "norm": "embeddings.LayerNorm",
    }
    layers = {
        "attention/query": "attention.self.query",
        "attention/key": "attention.self.key",
        "attention/value": "attention.self.value",
        "attention/out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "feed_forward/hidden": "intermediate.dense",
        "feed_forward/out": "output.dense",
        "feed_forward_norm": "output.LayerNorm",
    }
    for i in range(model.num_blocks):
        names |= {f"block_{i}/{ours}": f"encoder.layer.{i}.{theirs}" for ours, theirs in layers.items()}
    return names


def _model(path: Path) -> BERTEncoder:
    """The model of a `config.json`."""
    try:
        config = {"position_embedding_type": "absolute"} | json.loads(path.read_text(encoding="utf-8"))
        described = {name: config[name] for name in _EXPECTED}
        if described != _EXPECTED:
            raise ValueError(f"expected {_EXPECTED}, got {described}")
        return BERTEncoder(**{ours: config[theirs] for ours, theirs in _FIELDS.items()})
    except KeyError as error:
        raise ValueError(f"folder: {path} has no field {error}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"folder: {path} is no config of a BERT encoder: {error}") from error


def _modern(name: str) -> str:
    """Files of the first releases have TensorFlow's names in the norms."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
