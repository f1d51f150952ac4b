"""Models like CLIP and SigLIP with random weights, saved by the test."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.language.encoders.open import open_encoder
from kilolayer.language.encoders.transformers import TransformersEncoder
from tiny_models import PATCHES, write_clip, write_siglip, write_siglip2

torch = pytest.importorskip("torch", reason="the extra vlm is not installed")
transformers = pytest.importorskip("transformers", reason="the extra vlm is not installed")


SENTENCES = ["go to the top left corner", "the red disc", "go right " * 9]
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8)


@pytest.fixture(scope="module", params=[write_clip, write_siglip, write_siglip2])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return request.param(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TransformersEncoder:
    encoder = open_encoder(str(folder))
    assert isinstance(encoder, TransformersEncoder)
    return encoder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A directory that a test may damage."""
    return write_clip(tmp_path)


def test_features_are_finite_and_deterministic(encoder: TransformersEncoder) -> None:
    for encode in (lambda: encoder.text(SENTENCES), lambda: encoder.image(PICTURES)):
        first, second = encode(), encode()
        assert first.tokens is not None
        assert second.tokens is not None
        assert first.pooled.dtype == first.tokens.dtype == np.float32
        assert np.isfinite(first.pooled).all()
        assert np.isfinite(first.tokens).all()
        assert first.pooled.tobytes() == second.pooled.tobytes()
        assert first.tokens.tobytes() == second.tokens.tobytes()
        # Features depend on the input.
        assert first.pooled.std(0).min() > 1e-3


def test_features_do_not_depend_on_the_batch(encoder: TransformersEncoder) -> None:
    together, alone = encoder.text(SENTENCES), encoder.text(SENTENCES[1:2])
    np.testing.assert_allclose(together.pooled[1:2], alone.pooled, atol=1e-5)
    together, alone = encoder.image(PICTURES), encoder.image(PICTURES[1:2])
    np.testing.assert_allclose(together.pooled[1:2], alone.pooled, atol=1e-5)


def test_picture_tokens_are_the_patches(encoder: TransformersEncoder) -> None:
    pooled, tokens, mask = encoder.image(PICTURES)
    assert tokens is not None
    inputs = encoder.image_processor(list(PICTURES), return_tensors="pt")
    with torch.inference_mode():
        states = encoder.model.vision_model(**inputs).last_hidden_state.numpy()
    is_clip = encoder.model.config.model_type == "clip"
    np.testing.assert_array_equal(tokens, states[:, 1:] if is_clip else states)
    count = tokens.shape[1] if mask is None else mask.sum(1).max()
    assert count == PATCHES
    assert pooled.shape == (3, 12 if is_clip else 16)


def test_channel_order_is_kept(encoder: TransformersEncoder) -> None:
    """A picture three pixels high must not be taken for one with the channels first."""
    low = np.zeros((2, 3, 24, 3), np.uint8)
    low[0, ..., 0] = 255
    low[1, ..., 2] = 255
    red, blue = encoder.image(low).pooled
    assert np.abs(red - blue).max() > 1e-3


def test_long_sentences_are_truncated(encoder: TransformersEncoder) -> None:
    longer = [f"{SENTENCES[2]} left left left"]
    np.testing.assert_array_equal(encoder.text(longer).pooled, encoder.text(SENTENCES[2:]).pooled)


def test_mask_of_padding_follows_the_model(encoder: TransformersEncoder) -> None:
    mask = encoder.text(SENTENCES).mask
    if encoder.model.config.model_type == "clip":
        assert mask is not None
        assert mask.sum(1).tolist() == [7, 4, 10]
    else:
        assert mask is None


def test_model_is_frozen(encoder: TransformersEncoder) -> None:
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not encoder.model.training


def test_fingerprint_depends_on_weights_and_not_on_the_directory(
    folder: Path, tmp_path: Path
) -> None:
    encoder = open_encoder(str(shutil.copytree(folder, tmp_path / "copy")))
    assert isinstance(encoder, TransformersEncoder)
    before = encoder.fingerprint()
    assert before == open_encoder(str(folder)).fingerprint()
    encoder.text(SENTENCES)
    encoder.image(PICTURES)
    assert encoder.fingerprint() == before
    weight = next(encoder.model.parameters())
    weight.view(torch.int32).view(-1)[0] ^= 1
    assert encoder.fingerprint() != before


def test_fingerprint_depends_on_tokenizer_and_image_processor(clip: Path) -> None:
    before = open_encoder(str(clip)).fingerprint()
    file = clip / "preprocessor_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "image_mean": [0.5, 0.5, 0.5]}))
    after = open_encoder(str(clip)).fingerprint()
    assert after != before
    words = clip / "tokenizer.json"
    words.write_text(words.read_text().replace('"red"', '"rot"'))
    assert open_encoder(str(clip)).fingerprint() != after


def refusal(name: object, allow_download: bool = False) -> str:
    with pytest.raises(UserError) as caught:
        open_encoder(str(name), allow_download)
    return str(caught.value)


def test_folder_without_weights_is_refused(clip: Path) -> None:
    (clip / "model.safetensors").unlink()
    assert "it needs config.json, model.safetensors" in refusal(clip)


def test_pickled_weights_are_refused(clip: Path) -> None:
    (clip / "model.safetensors").unlink()
    torch.save({}, clip / "pytorch_model.bin")
    assert "it needs config.json, model.safetensors" in refusal(clip)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "is not a complete transformers model" in refusal(tmp_path)


def without_image_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def with_half_the_weights(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("damage", [without_image_processor, with_half_the_weights])
def test_incomplete_folder_is_refused(clip: Path, damage: Callable[[Path], None]) -> None:
    damage(clip)
    assert "is not a complete transformers model" in refusal(clip)


def test_tokenizer_without_vocabulary_is_refused(clip: Path) -> None:
    (clip / "tokenizer.json").unlink()
    (clip / "tokenizer_config.json").unlink()
    assert "has no vocabulary: the files of its tokenizer are missing" in refusal(clip)


def test_missing_weights_are_refused(clip: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(clip / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, clip / "model.safetensors", {"format": "pt"})
    assert (
        "1 arrays are missing or have another shape, such as visual_projection.weight"
        in refusal(clip)
    )


def test_missing_package_is_named(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(name: str, **options: Any) -> None:
        raise ImportError("\nThis requires the SentencePiece library. Check out\nthe page.")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lacking)
    assert "(This requires the SentencePiece library): install it" in refusal(clip)


def test_model_without_text_and_image_features_is_refused(tmp_path: Path) -> None:
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = transformers.BertConfig(**layers, num_attention_heads=2, vocab_size=14)
    transformers.BertModel(config).save_pretrained(tmp_path)
    assert "of the type bert, which takes no sentences and no pictures" in refusal(tmp_path)


def test_unknown_model_type_is_named(clip: Path) -> None:
    (clip / "config.json").write_text(json.dumps({"model_type": "eye"}))
    assert "eye" in refusal(clip)


def test_hub_id_is_not_downloaded_unless_allowed() -> None:
    assert "allow the download with --allow-download" in refusal("nobody/has-this-model")


def test_unreachable_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    local_only = []

    def offline(name: str, **options: Any) -> None:
        local_only.append(options["local_files_only"])
        raise OSError("We couldn't connect to the hub.\nA long story.")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", offline)
    message = refusal("nobody/has-this-model", allow_download=True)
    assert local_only == [False]
    assert "cannot be downloaded from the hub (We couldn't connect to the hub): check" in message


@pytest.mark.parametrize("name", ["minilmm", "/no/such/folder", "", "x" * 5000, "~x/y/z"])
def test_unknown_names_are_refused(name: str) -> None:
    assert "there is no encoder" in refusal(name)


@pytest.mark.parametrize("name", ["minilm+", "a+b+c"])
def test_pair_needs_two_names(name: str) -> None:
    assert "exactly two names are needed" in refusal(name)


def test_pair_is_opened_by_both_names(clip: Path) -> None:
    pair = open_encoder(f"{clip}+{clip}")
    assert pair.name == f"{clip}+{clip}"
    assert pair.text(SENTENCES).pooled.shape == pair.image(PICTURES).pooled.shape == (3, 12)
