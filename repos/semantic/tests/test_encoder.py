import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from repos.semantic import encoder as module
from repos.semantic.bert import EncoderError, Precision, padded
from repos.semantic.encoder import PACKAGED, PACKAGED_SHA256, Encoder, find, locate

SENTENCES = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]


def encode(encoder: Encoder, texts: list[str]) -> np.ndarray:
    return encoder.encode([encoder.frame(tokens) for tokens in encoder.tokenize(texts)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the packaged encoder that a test may break."""
    return shutil.copytree(locate(PACKAGED), tmp_path / "encoder")


def test_gives_the_published_cosines(encoder: Encoder) -> None:
    vectors = encode(encoder, SENTENCES)
    assert encoder.sha256 == PACKAGED_SHA256
    assert np.allclose(vectors[1:] @ vectors[0], [0.695, 0.943, 0.257], atol=5e-4)


@pytest.mark.slow
def test_gives_the_vectors_of_keras_hub(encoder: Encoder) -> None:
    import keras_hub

    inputs = [encoder.frame(tokens) for tokens in encoder.tokenize([*SENTENCES, "word " * 300])]
    tokens = padded(inputs)
    reference = keras_hub.models.BertBackbone.from_preset(str(encoder.folder))
    present = (tokens != 0).astype(np.float32)
    states = reference.predict(
        {"token_ids": tokens, "padding_mask": tokens != 0, "segment_ids": np.zeros_like(tokens)}, verbose=0
    )["sequence_output"]
    pooled = (states * present[:, :, None]).sum(1) / present.sum(1, keepdims=True)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    # keras-hub computes GELU by its tanh formula, the published model exactly: they part in the sixth digit.
    assert (encoder.encode(inputs) * pooled).sum(axis=1).min() > 0.99999


def test_bfloat16_stays_close(encoder: Encoder) -> None:
    texts = [*SENTENCES, "Return the eigenvalues of a symmetric matrix. " * 8]
    cosines = (encode(encoder, texts) * encode(find(PACKAGED, "bfloat16"), texts)).sum(axis=1)
    assert cosines.min() > 0.9995


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_vector_is_the_same_bits_whatever_it_is_encoded_with(precision: Precision) -> None:
    encoder = find(PACKAGED, precision)
    random = np.random.default_rng(0)
    inputs = [encoder.frame(random.integers(1000, 30000, length).tolist()) for length in random.integers(3, 90, 60)]
    together = encoder.encode(inputs)
    order = random.permutation(60)
    assert np.array_equal(encoder.encode([inputs[place] for place in order]), together[order])
    assert np.array_equal(encoder.encode(inputs[:5]), together[:5])


@pytest.mark.parametrize("length", [1, 10, 40, 254])
def test_one_input_is_encoded_as_in_a_batch(encoder: Encoder, length: int) -> None:
    tokens = encoder.frame([2000 + place for place in range(length)])
    assert np.allclose(encoder.encode_one(tokens), encoder.encode([tokens]), atol=1e-6)


def test_a_long_input_is_cut_at_the_maximum(encoder: Encoder) -> None:
    assert len(encoder.frame([5] * 1000)) == encoder.max_tokens == 256


@pytest.mark.parametrize("name", ["no-such-encoder", "/no/such/folder", "./missing"])
def test_an_unknown_name_says_what_was_expected(name: str) -> None:
    with pytest.raises(EncoderError, match="existing folder"):
        locate(name)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"no tokenizer\.json"):
        find(str(folder))


def test_another_architecture_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "roberta"}))
    with pytest.raises(EncoderError, match=r"only .*bert.* is supported"):
        find(str(folder))


def test_packaged_weights_that_changed_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    monkeypatch.setattr(module, "locate", lambda name: folder)
    with pytest.raises(EncoderError, match=r"not .* as published"):
        find(PACKAGED)


def test_learned_weights_are_read_back_as_they_were(encoder: Encoder, tmp_path: Path) -> None:
    weights = {name: weight.numpy() for name, weight in encoder.weights.items() if "pooler" not in name}
    weights["embeddings.LayerNorm.weight"] = weights["embeddings.LayerNorm.weight"] * 1.01
    learned = encoder.learned(weights)
    learned.save(tmp_path)
    read = Encoder(tmp_path)
    assert read.sha256 == learned.sha256 != encoder.sha256
    assert np.array_equal(encode(read, SENTENCES), encode(learned, SENTENCES))
