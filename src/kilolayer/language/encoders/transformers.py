"""Any model of the kind of CLIP or SigLIP, through the package transformers.

CLIP: arXiv 2103.00020. SigLIP: arXiv 2303.15343. Weights come from safetensors files alone, and no
code that lies beside them is run.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilolayer.language.base import Features
from kilolayer.language.encoders.checks import check_pictures, check_sentences
from kilolayer.types import UserError

BATCH = 32
"""Rows that go through the network at once: what bounds its memory."""


@dataclass(frozen=True)
class TransformersEncoder:
    """An Encoder of sentences and pictures; pooled features of both lie in one space.

    Tokens of pictures are the last hidden states of the patches, without the class token; those of
    sentences the last hidden states of the word pieces. Sentences are padded and cut to the length
    that the model was trained with. The torch module runs on the processor, in float32. settings:
    SHA-256 of all that features depend on beside the parameters.
    """

    name: str
    model: Any
    tokenizer: Any
    image_processor: Any
    settings: str
    reads: bool = True
    sees: bool = True

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.settings.encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            array = tensor.contiguous().numpy()
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def text(self, sentences: Sequence[str]) -> Features:
        """Raises UserError for sentences that are none."""
        # Always to the full length: so SigLIP was trained, and a row's features do not depend on
        # which others are beside it.
        inputs = self.tokenizer(
            check_sentences(sentences),
            padding="max_length",
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
            return_attention_mask=self._masks_padding,
        )
        pooled, tokens = self._run(self.model.get_text_features, inputs)
        mask = inputs.get("attention_mask")
        return Features(pooled, tokens, None if mask is None else mask.numpy().astype(bool))

    def image(self, pictures: np.ndarray) -> Features:
        """Raises UserError for pictures that are none."""
        inputs = self.image_processor(
            list(check_pictures(pictures)), return_tensors="pt", input_data_format="channels_last"
        )
        pooled, tokens = self._run(self.model.get_image_features, inputs)
        if tokens is not None:
            # What is not a patch, such as the class token, comes first.
            tokens = tokens[:, -self._patches(inputs["pixel_values"]) :]
        mask = inputs.get("pixel_attention_mask")
        return Features(pooled, tokens, None if mask is None else mask.numpy().astype(bool))

    def _patches(self, pixels: Any) -> int:
        """Of a picture as the network is given it: `[rows, 3, height, width]`, or cut up already,
        `[rows, patches, numbers]`."""
        if pixels.ndim == 3:
            return pixels.shape[1]
        side = self.model.config.vision_config.patch_size
        return (pixels.shape[-2] // side) * (pixels.shape[-1] // side)

    @property
    def _length(self) -> int:
        """Word pieces of every sentence."""
        return min(
            self.model.config.text_config.max_position_embeddings, self.tokenizer.model_max_length
        )

    @property
    def _masks_padding(self) -> bool:
        """SigLIP was trained to attend to the padding, whatever its tokenizer tells."""
        return not self.model.config.model_type.startswith("siglip")

    def _run(self, features_of: Any, inputs: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """The pooled features, and the last hidden states where they are told."""
        import torch

        pooled, tokens = [], []
        rows = len(next(iter(inputs.values())))
        for start in range(0, rows, BATCH):
            batch = {name: values[start : start + BATCH] for name, values in inputs.items()}
            with torch.inference_mode():
                answer = features_of(**batch)
            # From version 5 on an output with all states, before that the pooled features alone.
            pooled.append(getattr(answer, "pooler_output", answer).numpy())
            hidden = getattr(answer, "last_hidden_state", None)
            if hidden is not None:
                tokens.append(hidden.numpy())
        return np.concatenate(pooled), np.concatenate(tokens) if tokens else None


def open_transformers(name: str, allow_download: bool = False) -> TransformersEncoder:
    """The model in the directory `name`, or of the hub id `name`.

    allow_download: whether the hub may be asked for what its local cache does not hold. Raises
    UserError if the packages are missing, if there is no such model, if it is not whole, or if it
    has no half for sentences or none for pictures.
    """
    try:
        # Imported late: an extra, and seconds.
        import torch
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
    except ImportError as error:
        raise UserError(
            f"the encoder {name} needs the packages torch and transformers: "
            "`pip install 'kilolayer[vlm]'` brings them."
        ) from error
    folder = os.path.expanduser(name)
    is_folder = os.path.isdir(folder)
    source = folder if is_folder else name
    common = {"local_files_only": not allow_download, "trust_remote_code": False}
    try:
        model, loading = AutoModel.from_pretrained(
            source, **common, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        _check_model(name, model, loading)
        tokenizer = AutoTokenizer.from_pretrained(source, **common)
        _check_tokenizer(name, tokenizer)
        # Not the one of torchvision: features must not depend on whether that is installed.
        image_processor = AutoImageProcessor.from_pretrained(source, **common, backend="pil")
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"the model {name} needs one more package ({_reason(error)}): install that."
        ) from error
    except Exception as error:
        raise _no_model(name, is_folder, allow_download, error) from error
    settings = _settings(model, tokenizer, image_processor)
    model.eval().requires_grad_(False)
    return TransformersEncoder(name, model, tokenizer, image_processor, settings)


def _settings(model: Any, tokenizer: Any, image_processor: Any) -> str:
    """The same wherever the model lies: none of these tells its place."""
    config = model.config.to_diff_dict()
    del config["transformers_version"]
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    digest.update(image_processor.to_json_string().encode())
    digest.update(str(tokenizer.model_max_length).encode())
    # A sentencepiece model, or one of the package tokenizers.
    pieces = getattr(tokenizer, "sp_model", None)
    digest.update(
        tokenizer.backend_tokenizer.to_str().encode()
        if pieces is None
        else pieces.serialized_model_proto()
    )
    return digest.hexdigest()


def _check_model(name: str, model: Any, loading: Any) -> None:
    """Refuse what would be drawn at random, and what cannot answer."""
    halves = {"sentences": "get_text_features", "pictures": "get_image_features"}
    lacks = [half for half, method in halves.items() if not hasattr(model, method)]
    if lacks:
        raise UserError(
            f"{name} is a model of the type {model.config.model_type}, which takes no "
            f"{' and no '.join(lacks)}: a model of the kind of CLIP or SigLIP is needed."
        )
    missing = sorted(loading["missing_keys"]) + sorted(map(str, loading["mismatched_keys"]))
    if missing:
        raise UserError(
            f"the weights of {name} are not whole: {len(missing)} arrays are missing or of another "
            f"shape, as {missing[0]}; get the model again."
        )


def _check_tokenizer(name: str, tokenizer: Any) -> None:
    """Without its files transformers makes one that knows no word, and says nothing."""
    left, down = tokenizer(["left", "down"])["input_ids"]
    if left == down:
        raise UserError(
            f"the model {name} has no vocabulary: the files of its tokenizer are missing; get the "
            "model again."
        )


def _no_model(name: str, is_folder: bool, allow_download: bool, error: Exception) -> UserError:
    reason = _reason(error)
    if is_folder:
        return UserError(
            f"{name} holds no whole transformers model ({reason}): it needs config.json, "
            "model.safetensors, and the files of a tokenizer and an image processor."
        )
    if allow_download:
        return UserError(
            f"the model {name} could not be had from the hub ({reason}): check the name and the "
            "network, or name a directory that holds it."
        )
    return UserError(
        f"{name} is no directory here, and the local cache of the hub holds no model of that name: "
        "allow the download with --allow-download (in Python, allow_download=True), or name a "
        "directory."
    )


def _reason(error: Exception) -> str:
    """The first sentence of an error, of which transformers makes pages."""
    return (str(error).strip() or repr(error)).splitlines()[0].split(". ")[0].rstrip(".:")
