"""Models of text: language models, translation, and how sequences are decoded and scored.

`RNNLanguageModel` and `GPT` with `next_token_prediction`, `Seq2Seq`, `AttentionSeq2Seq` and `Transformer` with
`teacher_forcing` are models and their losses. `load_bert` reads a pretrained `BERTEncoder`.
`generate` and `translate` write with the others, by `greedy_search`, `beam_search` or `sample`, which decode from any
step function, see `decoding.py`: one compiled loop each.
`Perplexity` and `NgramCounts` are metrics of sums; `perplexity` and `bleu` are their short forms. `NGramModel` counts.
"""

from jaxdl.nlp.attention_seq2seq import AttentionSeq2Seq, AttentionState
from jaxdl.nlp.backpropagation_through_time import (
    linear_rnn_gradients,
    randomized_truncation,
    regular_truncation,
    truncated_scan,
)
from jaxdl.nlp.beam_search import beam_search
from jaxdl.nlp.bert import BERTEncoder, sentence_embedding
from jaxdl.nlp.bleu import NgramCounts, bleu
from jaxdl.nlp.decoding import Decoded, StepFn
from jaxdl.nlp.generation import generate, translate
from jaxdl.nlp.gpt import GPT, GPTState
from jaxdl.nlp.greedy_search import greedy_search
from jaxdl.nlp.hugging_face import bert_names, load_bert
from jaxdl.nlp.next_token_prediction import next_token_prediction
from jaxdl.nlp.ngram_model import NGramModel
from jaxdl.nlp.perplexity import Perplexity, perplexity
from jaxdl.nlp.rnn_language_model import RNNLanguageModel
from jaxdl.nlp.sampling import sample, truncate_logits
from jaxdl.nlp.seq2seq import DecoderState, Seq2Seq
from jaxdl.nlp.teacher_forcing import teacher_forcing
from jaxdl.nlp.transformer import Transformer, TransformerDecoder, TransformerEncoder, TransformerState

__all__ = [
    "GPT",
    "AttentionSeq2Seq",
    "AttentionState",
    "BERTEncoder",
    "Decoded",
    "DecoderState",
    "GPTState",
    "NGramModel",
    "NgramCounts",
    "Perplexity",
    "RNNLanguageModel",
    "Seq2Seq",
    "StepFn",
    "Transformer",
    "TransformerDecoder",
    "TransformerEncoder",
    "TransformerState",
    "beam_search",
    "bert_names",
    "bleu",
    "generate",
    "greedy_search",
    "linear_rnn_gradients",
    "load_bert",
    "next_token_prediction",
    "perplexity",
    "randomized_truncation",
    "regular_truncation",
    "sample",
    "sentence_embedding",
    "teacher_forcing",
    "translate",
    "truncate_logits",
    "truncated_scan",
]
