"""CLIP-like and SigLIP-like models, through the package transformers.

CLIP: arXiv 2103.00020. SigLIP: arXiv 2303.15343. Weights are read only from safetensors files, and
no code of the model's repository is run.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilolayer.errors import UserError
from kilolayer.language.base import Features, check_pictures, check_sentences
from kilolayer.runtime.tensors import fingerprint

BATCH = 32
"""Rows per call of the network. Bounds its memory."""


@dataclass(frozen=True)
class TransformersEncoder:
    """An Encoder of sentences and pictures. The pooled features of both share one space.

    Picture tokens are the last hidden states of the patches, without the class token. Sentence
    tokens are the last hidden states of the word pieces. Sentences are padded and truncated to the
    model's training length. The torch module runs on the CPU in float32. settings: SHA-256 of
    everything besides the parameters that determines features.
    """

    name: str
    model: Any
    tokenizer: Any
    image_processor: Any
    settings: str
    encodes_text: bool = True
    encodes_images: bool = True

    def fingerprint(self) -> str:
        tensors = self.model.state_dict()
        return fingerprint({name: tensors[name].numpy() for name in tensors}, self.settings)

    def text(self, sentences: Sequence[str]) -> Features:
        """Features of sentences; raises UserError for invalid ones."""
        config, tokenizer = self.model.config, self.tokenizer
        # Always pad to the full length: SigLIP was trained this way, and a row's features then do
        # not depend on the other rows of its batch.
        inputs = tokenizer(
            check_sentences(sentences),
            padding="max_length",
            truncation=True,
            max_length=min(config.text_config.max_position_embeddings, tokenizer.model_max_length),
            return_tensors="pt",
            # SigLIP was trained to attend to padding, whatever its tokenizer says.
            return_attention_mask=not config.model_type.startswith("siglip"),
        )
        return self._run(self.model.get_text_features, inputs, "attention_mask")

    def image(self, pictures: np.ndarray) -> Features:
        """Features of pictures; raises UserError for invalid ones."""
        inputs = self.image_processor(
            list(check_pictures(pictures)), return_tensors="pt", input_data_format="channels_last"
        )
        features = self._run(self.model.get_image_features, inputs, "pixel_attention_mask")
        if features.tokens is None:
            return features
        # Tokens that are not patches, such as the class token, come first.
        patches = self._patches(inputs["pixel_values"])
        return features._replace(tokens=features.tokens[:, -patches:])

    def _patches(self, pixels: Any) -> int:
        """Number of patches of the network's input: `[rows, 3, height, width]`, or already divided
        into patches, `[rows, patches, numbers]`."""
        if pixels.ndim == 3:
            return pixels.shape[1]
        side = self.model.config.vision_config.patch_size
        return (pixels.shape[-2] // side) * (pixels.shape[-1] // side)

    def _run(self, features_of: Any, inputs: Any, mask_name: str) -> Features:
        """The features of the inputs, with the last hidden states if the model returns them."""
        import torch

        pooled, tokens = [], []
        rows = len(next(iter(inputs.values())))
        for start in range(0, rows, BATCH):
            batch = {name: values[start : start + BATCH] for name, values in inputs.items()}
            with torch.inference_mode():
                output = features_of(**batch)
            # transformers 5 returns an output with all states, older versions only the pooled
            # features.
            pooled.append(getattr(output, "pooler_output", output).numpy())
            hidden = getattr(output, "last_hidden_state", None)
            if hidden is not None:
                tokens.append(hidden.numpy())
        mask = inputs.get(mask_name)
        return Features(
            np.concatenate(pooled),
            np.concatenate(tokens) if tokens else None,
            None if mask is None else mask.numpy().astype(bool),
        )


def open_transformers(name: str, allow_download: bool = False) -> TransformersEncoder:
    """Open the model in the directory `name`, or with the hub id `name`.

    allow_download: whether to download a model that is not in the hub's local cache. Raises
    UserError if a package is missing, if the model does not exist or is incomplete, or if it does
    not take both sentences and pictures.
    """
    try:
        # Imported late: the packages belong to an extra, and importing them takes seconds.
        import torch
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
    except ImportError as error:
        raise UserError(
            f"the encoder {name} needs the packages torch and transformers: "
            "`pip install 'kilolayer[vlm]'` installs them."
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
        # Not torchvision's processor: features must not depend on whether it is installed.
        image_processor = AutoImageProcessor.from_pretrained(source, **common, backend="pil")
    except UserError:
        raise
    except ImportError as error:
        raise UserError(
            f"the model {name} needs another package ({_reason(error)}): install it."
        ) from error
    except Exception as error:
        raise _no_model(name, is_folder, allow_download, error) from error
    settings = _settings(model, tokenizer, image_processor)
    model.eval().requires_grad_(False)
    return TransformersEncoder(name, model, tokenizer, image_processor, settings)


def _settings(model: Any, tokenizer: Any, image_processor: Any) -> str:
    """SHA-256 of config, image processor and tokenizer, independent of the model's directory."""
    config = model.config.to_diff_dict()
    del config["transformers_version"]
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    digest.update(image_processor.to_json_string().encode())
    digest.update(str(tokenizer.model_max_length).encode())
    # A sentencepiece model, or else a model of the package tokenizers.
    pieces = getattr(tokenizer, "sp_model", None)
    digest.update(
        tokenizer.backend_tokenizer.to_str().encode()
        if pieces is None
        else pieces.serialized_model_proto()
    )
    return digest.hexdigest()


def _check_model(name: str, model: Any, loading: Any) -> None:
    """Raise UserError for a model without one half, and for missing weights, which transformers
    would replace by random ones."""
    halves = {"sentences": "get_text_features", "pictures": "get_image_features"}
    lacking = [half for half, method in halves.items() if not hasattr(model, method)]
    if lacking:
        raise UserError(
            f"{name} is a model of the type {model.config.model_type}, which takes no "
            f"{' and no '.join(lacking)}: a model like CLIP or SigLIP is needed."
        )
    missing = sorted(loading["missing_keys"]) + sorted(map(str, loading["mismatched_keys"]))
    if missing:
        raise UserError(
            f"the weights of {name} are incomplete: {len(missing)} arrays are missing or have "
            f"another shape, such as {missing[0]}: download the model again."
        )


def _check_tokenizer(name: str, tokenizer: Any) -> None:
    """Raise UserError for a tokenizer without a vocabulary; transformers makes one silently if the
    tokenizer's files are missing."""
    left, down = tokenizer(["left", "down"])["input_ids"]
    if left == down:
        raise UserError(
            f"the model {name} has no vocabulary: the files of its tokenizer are missing: download "
            "the model again."
        )


def _no_model(name: str, is_folder: bool, allow_download: bool, error: Exception) -> UserError:
    reason = _reason(error)
    if is_folder:
        return UserError(
            f"{name} is not a complete transformers model ({reason}): it needs config.json, "
            "model.safetensors, and the files of a tokenizer and an image processor."
        )
    if allow_download:
        return UserError(
            f"the model {name} cannot be downloaded from the hub ({reason}): check the name and "
            "the network, or name a directory that contains it."
        )
    return UserError(
        f"{name} is not a directory, and the hub's local cache has no model of that name: allow "
        "the download with --allow-download (in Python, allow_download=True), or name a directory."
    )


def _reason(error: Exception) -> str:
    """The first sentence of an error; the messages of transformers can be pages long."""
    return (str(error).strip() or repr(error)).splitlines()[0].split(". ")[0].rstrip(".:")
