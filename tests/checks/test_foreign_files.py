"""Files that are none of kvplan's, wherever a file can be named: nothing of them is quoted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import kvplan
from kvplan.checks.baseline import read_lock, update_lock
from kvplan.errors import KvplanError
from kvplan.registry.names import load_gpu
from tests.command_line import Run
from tests.hf.configs import LLAMA, write

TOKEN = "hunter2"

SECRETS = {
    "shadow": "root:hunter2a:19000:0:99999:7:::\ndaemon:hunter2b:1:2:::\n",
    "environment": "AWS_SECRET=hunter2a\nexport TOKEN=hunter2b\n",
    "mapping": "hunter2a: hunter2b\npassword: hunter2c\n",
    "with a name": "name: hunter2a\nsource: hunter2b\npassword: hunter2c\n",
    "two colons": "password: hunter2a: hunter2b\n",
    "a key twice": "hunter2a: 1\nhunter2a: 2\n",
    "alias": "a: *hunter2a\n",
    "anchor": "a: &hunter2a 1\nb: *hunter2b\n",
    "tag": "a: !hunter2a b\n",
    "directive": "%TAG !h! tag:hunter2a,2000:\n---\na: !hunter2b!x c\n",
    "vault": "db: !vault |\n  hunter2a\n",
    "empty value": "hunter2a:\n",
    "ini": "[hunter2a]\nkey = hunter2b\n",
    "pem": "-----BEGIN hunter2a-----\nhunter2b\n-----END-----\n",
    "list": "- hunter2a\n- hunter2b: 3\n",
    "one line": "hunter2a",
    "open quote": '"hunter2a\n',
    "escape": '"hunter2a\\q"',
    "json": '{"hunter2a": "hunter2b", "auths": {"x": {"auth": "hunter2c"}}}',
    "json text": '"hunter2a"',
    "json twice": '{"hunter2a": 1, "hunter2a": 2}',
    "json cut": '{"a": hunter2a}',
    "json escape": '{"a": "hunter2a\\q"}',
    "kubernetes": "apiVersion: v1\nkind: Config\nusers:\n- name: hunter2a\n",
    "netrc": "machine x login y password hunter2a\n",
    "at": "@hunter2a\n",
    "star": "*hunter2a\n",
    "bar": "|hunter2a\n",
    "complex key": "? [hunter2a]\n: hunter2b\n",
    "defaults": "defaults: {hunter2a: hunter2b}\n",
    "two documents": "a: hunter2a\n---\nb: hunter2b\n",
    "binary": "hunter2a\0hunter2b",
    "long": "x" * 100 + "hunter2a: " + "hunter2b" * 30,
    "schema": '{"schema_version": "hunter2a", "x": "hunter2b"}',
}

COMPANIONS = (
    "hf_quant_config.json",
    "quantize_config.json",
    "quant_config.json",
    "model.safetensors.index.json",
    "model.safetensors",
)

READERS: dict[str, Callable[[Path], object]] = {
    "secret": kvplan.load,
    "secret.yaml": kvplan.load,
    "secret.json": kvplan.load,
    "gpu.yaml": load_gpu,
    "plan.lock.json": read_lock,
    "written.lock.json": lambda path: update_lock(path, {}, [], path.parent),
}


@pytest.mark.parametrize("shape", SECRETS)
def test_no_word_of_a_foreign_file_is_said(tmp_path: Path, shape: str) -> None:
    for name, read in READERS.items():
        path = tmp_path / name
        path.write_text(SECRETS[shape])
        with pytest.raises(KvplanError) as caught:
            read(path)
        assert TOKEN not in f"{caught.value.message} {caught.value.hint}", name
        assert path.read_text() == SECRETS[shape]


@pytest.mark.parametrize("shape", SECRETS)
@pytest.mark.parametrize("name", COMPANIONS)
def test_nor_of_one_that_a_checkpoint_links_to(tmp_path: Path, shape: str, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRETS[shape])
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder, LLAMA)
    (folder / name).symlink_to(secret)
    try:
        said = str(kvplan.load(folder))
    except KvplanError as error:
        said = f"{error.message} {error.hint}"
    assert TOKEN not in said


@pytest.mark.parametrize("shape", ["shadow", "mapping", "a key twice", "empty value", "json"])
def test_nor_in_annotations(run: Run, tmp_path: Path, shape: str) -> None:
    (tmp_path / "secret.yaml").write_text(SECRETS[shape])
    deployments = [
        "{name: a, model: secret.yaml, gpu: h100}",
        "{name: b, model: gpt2, gpu: secret.yaml}",
        "{name: c, model: gpt2, gpu: h100, draft_model: secret.yaml}",
    ]
    (tmp_path / "d.yaml").write_text(f"deployments: [{', '.join(deployments)}]\n")
    for file in ("d.yaml", "secret.yaml"):
        result = run("check", file, "--format", "github")
        assert result.returncode in (2, 3)
        assert TOKEN not in result.stdout + result.stderr


@pytest.mark.parametrize("name", COMPANIONS)
def test_a_link_to_nothing_beside_a_config_is_not_absent(tmp_path: Path, name: str) -> None:
    """As a pruned cache of the hub leaves them."""
    write(tmp_path, LLAMA)
    (tmp_path / name).symlink_to("/nowhere/blob")
    if "safetensors" in name:
        assert any(name in said for said in kvplan.load(tmp_path).assumptions)
    else:
        with pytest.raises(KvplanError, match=f"{name}: cannot be read: a link to a file"):
            kvplan.load(tmp_path)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".yaml", "x" * 300 + ".json", "a/" * 900])
def test_a_name_that_no_file_can_have_loses_its_own_deployment(
    run: Run, tmp_path: Path, name: str
) -> None:
    deployments = [
        f"{{name: a, model: '{name}', gpu: h100}}",
        f"{{name: b, model: gpt2, gpu: '{name}'}}",
        f"{{name: c, model: gpt2, gpu: h100, draft_model: '{name}'}}",
        "{name: d, model: gpt2, gpu: h100, gpus: 1}",
    ]
    (tmp_path / "d.yaml").write_text(f"deployments: [{', '.join(deployments)}]\n")
    result = run("check", name, "d.yaml", "--json")
    passed = [each["deployment"] for each in result.document["findings"] if not each["exit_code"]]
    assert result.returncode == 2
    assert passed == ["d"]
