"""What SECURITY.md promises: a model folder is data, nothing read is run, and nothing is reached outside."""

import ast
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fanin
from described_models import note_file
from fanin.data.catalog import CATALOG
from fanin.encoders.files import load_encoder, save_encoder
from fanin.encoders.transformer import load_pretrained
from fanin.encoders.transformer_encoder import TransformerEncoder
from fanin.errors import CheckpointError, ConfigError, FaninError
from fanin.model_files import load_model
from fanin.recipes.recipe_files import recipe_text

SOURCE = Path(fanin.__file__).parent
ROOT = Path(__file__).parents[1]

# Modules that run what they read, and built-in functions that do.
RUNNING_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "code",
    "runpy",
}
RUNNING_FUNCTIONS = {"eval", "exec", "__import__", "compile"}
# Methods that do, and the only calls of them: by the file, with what has to stand in the call.
RUNNING_METHODS = {
    "yaml.load": {"recipes/strict_yaml.py": "_StrictLoader"},
    "yaml.unsafe_load": {},
    "yaml.full_load": {},
    "torch.load": {},
    "torch.jit.load": {},
    "torch.hub.load": {},
    "torch.classes.load_library": {},
    "torch.ops.load_library": {},
    "np.load": {"data/features.py": "allow_pickle=False"},
    "np.fromregex": {},
    "os.system": {},
    "os.popen": {},
    "pd.read_pickle": {},
}


def sources():
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def faults(name, node):
    """What a node of a source does that no file of fanin may."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.split(".")[0] in RUNNING_MODULES]
    if isinstance(node, ast.ImportFrom):
        return [node.module] if (node.module or "").split(".")[0] in RUNNING_MODULES else []
    if not isinstance(node, ast.Call):
        return []
    called, call = ast.unparse(node.func), ast.unparse(node)
    if called in RUNNING_FUNCTIONS:
        return [called]
    if called in RUNNING_METHODS:
        wanted = RUNNING_METHODS[called].get(name)
        return [] if wanted is not None and wanted in call else [call]
    if called.endswith((".from_pretrained", ".from_config")):
        return [] if "**_SAFE" in call else [call]
    if called.startswith("subprocess.") and "shell=" in call:
        return [call]
    return []


def test_the_source_calls_nothing_that_runs_what_it_reads():
    found = [(name, fault) for name, tree in sources() for node in ast.walk(tree) for fault in faults(name, node)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from dill import loads",
        "eval('1')",
        "torch.load(path)",
        "yaml.load(text, Loader)",
        "np.load(path)",
        "library.AutoModel.from_pretrained(name)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_such_a_call_would_be_found(text):
    [statement] = ast.parse(text).body
    assert any(faults("data/features.py", node) for node in ast.walk(statement))


def test_transformers_are_told_to_run_no_code():
    text = (SOURCE / "encoders" / "transformer.py").read_text(encoding="utf-8")
    assert '_SAFE = {"trust_remote_code": False}' in text
    assert "use_safetensors=True" in text


@pytest.fixture(scope="module")
def run(planted, tiny_recipe, train):
    return train(planted, tiny_recipe("plain", "training.epochs=1"))[1]


@pytest.fixture
def folder(run, tmp_path):
    return shutil.copytree(run.model, tmp_path / "run" / "model")


class Payload:
    """Makes a file where somebody unpickles it."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return open, (self._path, "w")


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_pickle_in_place_of_any_file_is_refused_and_not_run(folder, tmp_path):
    content = pickle.dumps(Payload(str(tmp_path / "run it was")))
    names = files_of(folder)
    assert len(names) == 6
    for name in names:
        whole = (folder / name).read_bytes()
        described = (folder / "model.json").read_bytes()
        (folder / name).write_bytes(content)
        if name != "model.json":
            note_file(folder, name)
        with pytest.raises(CheckpointError, match=str(folder)):
            load_model(folder)
        (folder / "model.json").write_bytes(described)
        (folder / name).write_bytes(whole)
    load_model(folder)
    assert not (tmp_path / "run it was").exists()


def test_a_pickle_beside_the_files_is_not_looked_at(folder, tmp_path):
    for name in ("pytorch_model.bin", "model.pt", "optimizer.pkl", "__init__.py", "tokenizer/modeling.py"):
        (folder / name).write_bytes(pickle.dumps(Payload(str(tmp_path / "run it was"))))
    load_model(folder)
    assert not (tmp_path / "run it was").exists()


def test_links_out_of_a_model_folder_are_refused(folder, tmp_path):
    for name in (*files_of(folder), "tokenizer"):
        inside, outside = folder / name, tmp_path / "outside"
        inside.rename(outside)
        for target in (outside, Path(os.path.relpath(outside, inside.parent))):
            inside.symlink_to(target)
            with pytest.raises(CheckpointError, match=f"{inside}: a link to a place outside the model folder"):
                load_model(folder)
            inside.unlink()
        outside.rename(inside)
    (folder / "notes").symlink_to("/etc")
    with pytest.raises(CheckpointError, match="a link to a place outside"):
        load_model(folder)


def test_a_description_outside_a_model_folder_is_not_opened(folder, tmp_path):
    os.mkfifo(tmp_path / "outside")  # whoever opens it waits for ever
    (folder / "model.json").unlink()
    (folder / "model.json").symlink_to(tmp_path / "outside")
    with pytest.raises(CheckpointError, match="model.json: a link to a place outside the model folder"):
        load_model(folder)


def test_links_within_a_model_folder_and_to_it_are_fine(folder, tmp_path):
    (folder / "labels.jsonl").rename(folder / "names.jsonl")
    (folder / "labels.jsonl").symlink_to("names.jsonl")
    (tmp_path / "link").symlink_to(folder)
    assert load_model(tmp_path / "link").predict(["word1 word2"], 3)


def test_a_link_in_a_circle_is_refused(folder):
    (folder / "labels.jsonl").unlink()
    (folder / "labels.jsonl").symlink_to("labels.jsonl")
    with pytest.raises(CheckpointError, match="labels.jsonl"):
        load_model(folder)


@pytest.fixture
def transformer(tiny_transformer, tmp_path):
    """(folder, settings) of a saved transformer."""
    loaded = load_pretrained(str(tiny_transformer), 20)
    encoder = TransformerEncoder(loaded.transformer, out_features=8, pooling="cls", dropout=0.0)
    (tmp_path / "model").mkdir()
    save_encoder(encoder, loaded.tokenizer, tmp_path / "model")
    return tmp_path / "model", dict(encoder.settings)


@pytest.mark.parametrize("place", ["transformer/config.json", "tokenizer/tokenizer_config.json"])
@pytest.mark.parametrize("named", [False, True])
def test_code_beside_a_transformer_is_not_run(place, named, transformer, tmp_path):
    folder, settings = transformer
    path = folder / place
    (path.parent / "evil.py").write_text(f"open({str(tmp_path / 'run it was')!r}, 'w')\nclass Evil: pass\n")
    classes = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    changes = {"auto_map": classes} | ({"model_type": "evil", "tokenizer_class": "Evil"} if named else {})
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    try:
        load_encoder("transformer", settings, folder)
    except FaninError as error:
        assert str(folder) in str(error)  # noqa: PT017 - it need not be refused
    assert not (tmp_path / "run it was").exists()


def test_weights_elsewhere_are_refused(transformer, tiny_transformer, tmp_path):
    from safetensors.torch import load_file

    folder, settings = transformer
    outside = (folder / "transformer" / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = folder / "transformer" / "model.safetensors.index.json"
    mine = shutil.copytree(tiny_transformer, tmp_path / "mine")
    for elsewhere in ("../../outside.safetensors", str(outside)):
        index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(load_file(outside), elsewhere)}))
        with pytest.raises(CheckpointError, match="names weights outside the folder"):
            load_encoder("transformer", settings, folder)
        shutil.copy(index, mine)
        with pytest.raises(ConfigError, match="names weights outside the folder"):
            load_pretrained(str(mine), 20)


def test_an_adapter_is_refused(transformer):
    folder, settings = transformer
    (folder / "transformer" / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    with pytest.raises(CheckpointError, match="adapter_config.json, which is no part of a model"):
        load_encoder("transformer", settings, folder)


def test_a_tokenizer_s_numbers_take_no_memory(transformer):
    folder, settings = transformer
    path = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["word0"] = 2**32 - 1
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="tokenizer.json: a token has a number"):
        load_encoder("transformer", settings, folder)


def test_fetched_files_are_pinned():
    for entry in CATALOG.values():
        assert re.fullmatch(r"\d+(\.\d+)+", entry.version)
        for file in entry.files:
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert ".." not in file.member


# Ends the process at the first attempt to reach out, to listen, or to unpickle something of a module.
WATCH = """
import json, os, sys

def watch(event, arguments):
    if event.startswith("socket.") or event in ("pickle.find_class", "os.system", "urllib.Request"):
        os.write(2, f"not allowed: {event} {arguments}".encode())
        os._exit(99)

"""
COMMANDS = """
import torch, fanin.training.resume, fanin.cli.score_tables
from fanin.cli.main import run
sys.addaudithook(watch)
sys.exit(max(run(command) for command in json.loads(sys.argv[1])))
"""


def watched(program, *arguments, **environment):
    command = [sys.executable, "-c", WATCH + program, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, capture_output=True, env=environment, text=True, check=False)


def test_training_and_prediction_open_no_connection(planted, tmp_path, tiny_recipe):
    (tmp_path / "tiny.yaml").write_text(recipe_text(tiny_recipe("plain", "training.epochs=1")), encoding="utf-8")
    run = str(tmp_path / "run")
    commands = [
        ["train", str(planted), "--recipe", str(tmp_path / "tiny.yaml"), "--out", run],
        ["predict", run, "--text", "word1 word2"],
        ["evaluate", run, str(planted)],
    ]
    done = watched(COMMANDS, json.dumps(commands), FANIN_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "program",
    [
        "import socket; socket.socket().bind(('127.0.0.1', 0))",
        "import pickle; pickle.loads(pickle.dumps(os.getcwd))",
    ],
)
def test_the_watch_sees_what_it_is_for(program):
    done = watched(f"sys.addaudithook(watch)\n{program}")
    assert done.returncode == 99
    assert "not allowed" in done.stderr


@pytest.mark.parametrize("document", ["SECURITY.md", "docs/reliability.md"])
def test_every_test_that_is_named_is_there(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    functions, files = re.findall(r"`(test_\w+)`", text), re.findall(r"`((?:cpp/)?tests/[\w/]+\.\w+)`", text)
    assert functions
    assert files
    assert [name for name in functions if f"def {name}(" not in tests] == []
    assert [name for name in files if not (ROOT / name).is_file()] == []
