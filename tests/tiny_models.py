"""Models of the kind of CLIP and SigLIP, a few thousand random weights each, in directories."""

import json
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ("go", "to", "the", "left", "right", "corner", "red", "blue", "disc", "top", "bottom")
SPECIAL = ("<pad>", "<end>", "<unknown>")
LAYERS = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
NUMBERS = {"vocab_size": 14, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
TEXT = {**LAYERS, **NUMBERS}
SIZE, PATCH = 24, 8
PATCHES = (SIZE // PATCH) ** 2


def write_tokenizer(folder: Path, longest: int) -> None:
    """Of whole words, `<end>` behind each sentence, at most `longest` of them."""
    vocabulary = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", vocabulary["<end>"])]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "<end>",
        "unk_token": "<unknown>",
        "model_max_length": longest,
    }
    _write_json(folder / "tokenizer_config.json", said)


def write_clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        text_config={**TEXT, "max_position_embeddings": 10},
        vision_config={**LAYERS, "image_size": SIZE, "patch_size": PATCH},
        projection_dim=12,
    )
    _write(folder, CLIPModel, config)
    write_tokenizer(folder, 10)
    size = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    _write_json(
        folder / "preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor", **size}
    )
    return folder


def write_siglip(folder: Path) -> Path:
    from transformers import SiglipConfig, SiglipModel

    config = SiglipConfig(
        text_config={**TEXT, "max_position_embeddings": 8},
        vision_config={**LAYERS, "image_size": SIZE, "patch_size": PATCH},
    )
    _write(folder, SiglipModel, config)
    write_tokenizer(folder, 8)
    size = {"size": {"height": SIZE, "width": SIZE}}
    _write_json(
        folder / "preprocessor_config.json",
        {"image_processor_type": "SiglipImageProcessor", **size},
    )
    return folder


def write_siglip2(folder: Path) -> Path:
    """It keeps the shape of a picture and pads the patches instead."""
    from transformers import Siglip2Config, Siglip2Model

    config = Siglip2Config(
        text_config={**TEXT, "max_position_embeddings": 20, "vocab_size": 32},
        vision_config={**LAYERS, "patch_size": PATCH, "num_patches": PATCHES},
    )
    _write(folder, Siglip2Model, config)
    # Its tokenizer is of one kind alone, here without merges: every letter is a piece.
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *ascii_lowercase]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>")).save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", {"model_max_length": 20})
    size = {"patch_size": PATCH, "max_num_patches": PATCHES + 1}
    _write_json(
        folder / "preprocessor_config.json",
        {"image_processor_type": "Siglip2ImageProcessor", **size},
    )
    return folder


def _write(folder: Path, kind: Any, config: Any) -> None:
    import torch

    torch.manual_seed(0)
    kind(config).save_pretrained(folder)


def _write_json(path: Path, said: dict[str, Any]) -> None:
    path.write_text(json.dumps(said))
