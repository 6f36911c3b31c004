"""Which safetensors files of a folder are the model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvplan.errors import SpecError
from kvplan.hf import checkpoint as checkpoints
from kvplan.hf.checkpoint import Checkpoint, read_checkpoint
from tests.hf.safetensors_files import write, write_index

A = {"a": ("BF16", (2,))}
B = {"b": ("BF16", (4,))}


def read(folder: Path) -> Checkpoint:
    checkpoint = read_checkpoint(folder)
    assert checkpoint is not None
    return checkpoint


def names(checkpoint: Checkpoint) -> list[str]:
    return sorted(tensor.name for tensor in checkpoint.tensors)


def shards(folder: Path, stem: str = "model-") -> dict[str, str]:
    """Two shards, and the map of an index for them."""
    files = [f"{stem}0000{number}-of-00002.safetensors" for number in (1, 2)]
    write(folder / files[0], A)
    write(folder / files[1], B)
    return {"a": files[0], "b": files[1]}


def test_no_weights_of_a_model(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path) is None
    for name in ("adapter_model", "adapters", "optimizer", "mtp", "._model"):
        write(tmp_path / f"{name}.safetensors", A)
    (tmp_path / "model.safetensors").mkdir()
    assert read_checkpoint(tmp_path) is None


def test_what_is_not_a_folder_is_said_to_be_unreadable(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_checkpoint(write(tmp_path / "model.safetensors", A))


def test_one_file(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", A)
    assert (names(read(tmp_path)), read(tmp_path).notes) == (["a"], ())
    assert read(tmp_path).origin == "the header of one safetensors file"


@pytest.mark.parametrize("stem", ["model-", "model.safetensors-", "model_", "consolidated-"])
def test_shards_with_and_without_an_index(tmp_path: Path, stem: str) -> None:
    weight_map = shards(tmp_path, stem)
    assert names(read(tmp_path)) == ["a", "b"]
    write_index(tmp_path, weight_map)
    assert names(read(tmp_path)) == ["a", "b"]
    assert read(tmp_path).origin == "the headers of 2 safetensors files"


def test_a_shard_that_no_index_names_is_left_out_and_said(tmp_path: Path) -> None:
    write_index(tmp_path, shards(tmp_path))
    write(tmp_path / "mtp.safetensors", {"c": ("BF16", (1,))})
    assert names(read(tmp_path)) == ["a", "b"]
    assert [note for note in read(tmp_path).notes if "mtp.safetensors" in note]


def test_the_same_weights_twice_are_weighed_once(tmp_path: Path) -> None:
    """Mistral ships consolidated.safetensors beside the shards that transformers reads."""
    write(tmp_path / "consolidated.safetensors", {"tok_embeddings.weight": ("BF16", (8,))})
    assert names(read(tmp_path)) == ["tok_embeddings.weight"]
    weight_map = shards(tmp_path)
    assert names(read(tmp_path)) == ["a", "b"]
    assert "consolidated.safetensors" in read(tmp_path).notes[0]
    write_index(tmp_path, weight_map)
    assert names(read(tmp_path)) == ["a", "b"]


def test_the_index_goes_before_a_single_file(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"old": ("F32", (8,))})
    write_index(tmp_path, shards(tmp_path))
    assert names(read(tmp_path)) == ["a", "b"]
    assert "model.safetensors" in read(tmp_path).notes[0]


def test_files_of_other_names_are_the_model_where_there_is_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "pytorch_model.safetensors", A)
    write(tmp_path / "adapter_model.safetensors", B)
    assert names(read(tmp_path)) == ["a"]


def test_a_tensor_in_two_shards_counts_where_the_index_says(tmp_path: Path) -> None:
    weight_map = shards(tmp_path)
    write(tmp_path / weight_map["b"], {**A, **B})
    with pytest.raises(SpecError, match="'a' is in more than one file"):
        read(tmp_path)
    write_index(tmp_path, weight_map)
    assert names(read(tmp_path)) == ["a", "b"]


def test_a_tensor_that_the_index_forgot_is_loaded_all_the_same(tmp_path: Path) -> None:
    weight_map = shards(tmp_path)
    write(tmp_path / weight_map["b"], {**B, "c": ("F32", (1,))})
    write_index(tmp_path, weight_map)
    assert names(read(tmp_path)) == ["a", "b", "c"]


def test_missing_files_are_named_and_nothing_is_read(tmp_path: Path) -> None:
    weight_map = shards(tmp_path)
    write_index(tmp_path, weight_map)
    (tmp_path / weight_map["b"]).unlink()
    checkpoint = read(tmp_path)
    assert (checkpoint.tensors, checkpoint.origin) == ((), None)
    assert "1 of the 2 files that model.safetensors.index.json names" in checkpoint.notes[0]
    assert weight_map["b"] in checkpoint.notes[0]
    (tmp_path / "model.safetensors.index.json").unlink()
    assert "shard 2 of 2" in read(tmp_path).notes[0]


def test_links_are_followed_and_what_is_not_a_file_is_missing(tmp_path: Path) -> None:
    """huggingface_hub's cache is made of links; git clone without LFS leaves pointers."""
    write(tmp_path / "blob", A)
    path = tmp_path / "model.safetensors"
    path.symlink_to("blob")
    assert names(read(tmp_path)) == ["a"]
    path.unlink()
    path.symlink_to("nowhere")
    assert read(tmp_path).tensors == ()
    path.unlink()
    os.mkfifo(path)
    assert read(tmp_path).tensors == ()
    path.unlink()
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert read(tmp_path).tensors == ()
    assert "1 of the 1 files is not here (model.safetensors)" in read(tmp_path).notes[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "weight_map"),
        ("{}", "weight_map"),
        ('{"weight_map": []}', "weight_map"),
        ('{"weight_map": {}}', "weight_map"),
        ('{"weight_map": {"a": 1}}', "'a' is to be in 1"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "not a safetensors file of this folder"),
        ('{"weight_map": {"a": "/etc/x.safetensors"}}', "not a safetensors file of this folder"),
        ('{"weight_map": {"a": "x\\u0000.safetensors"}}', "not a safetensors file of this folder"),
        ('{"weight_map": {"a": "config.json"}}', "not a safetensors file of this folder"),
        ('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "given twice"),
        ('{"weight_map": {"z": "model.safetensors"}}', "names tensor 'z' in model.safetensors"),
    ],
)
def test_an_index_that_cannot_be_right(tmp_path: Path, text: str, reason: str) -> None:
    write(tmp_path / "model.safetensors", A)
    write_index(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        read_checkpoint(tmp_path)
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


def test_an_index_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"index\.json"):
        read_checkpoint(tmp_path)


def test_shards_of_two_checkpoints(tmp_path: Path) -> None:
    shards(tmp_path)
    write(tmp_path / "model-00001-of-00003.safetensors", A)
    with pytest.raises(SpecError, match="shards of 2 different checkpoints"):
        read_checkpoint(tmp_path)


def test_a_file_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", A)
    write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.safetensors")), B)
    assert names(read(tmp_path)) == ["a"]
    assert read(tmp_path).notes[0].isprintable()


def test_files_and_headers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "model-00001-of-999999.safetensors", A)
    assert "and 9996 more" in read(tmp_path).notes[0]
    monkeypatch.setattr(checkpoints, "MAX_FILES", 1)
    weight_map = shards(tmp_path)
    write_index(tmp_path, weight_map)
    with pytest.raises(SpecError, match="2 files of weights, more than 1"):
        read(tmp_path)
    monkeypatch.setattr(checkpoints, "MAX_FILES", 2)
    monkeypatch.setattr(checkpoints, "MAX_HEADERS_BYTES", 150)
    with pytest.raises(SpecError, match="bytes long, more than"):
        read(tmp_path)
