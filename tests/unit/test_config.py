"""The config as a user writes it: what is accepted, what each mistake says, what is filled in."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from miagap import config
from miagap.attacks.registry import ATTACKS
from miagap.config import __main__
from miagap.errors import InputError

ROOT = Path(__file__).parents[2]
STUDIES = [ROOT / "config.yaml", *sorted((ROOT / "workflow" / "studies").glob("*.yaml"))]


def errors(text):
    """The errors of a config given as YAML, without the file's name."""
    lines = config.resolve(yaml.safe_load(text), ATTACKS).errors
    assert all(line.startswith("config.yaml: ") and "\n" not in line for line in lines)
    return [line.removeprefix("config.yaml: ") for line in lines]


def warnings(text):
    resolved = config.resolve(yaml.safe_load(text), ATTACKS)
    assert resolved.errors == []
    return [line.removeprefix("config.yaml: ") for line in resolved.warnings]


def values(text):
    resolved = config.resolve(yaml.safe_load(text), ATTACKS)
    assert resolved.errors == []
    return resolved.values


def test_an_empty_config_has_all_defaults():
    resolved = config.resolve({}, ATTACKS)
    assert resolved.errors == []
    assert resolved.warnings == []
    assert len(resolved.values["techniques"]) == 10
    assert resolved.values["training"]["checkpoints"] == [10, 30, 60]
    assert resolved.values["techniques"]["none"] == {"augmentations": [], "training": {}}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_ready_studies_are_valid(path):
    resolved = config.load(path, ATTACKS)
    assert resolved.errors == []
    assert resolved.warnings == []


def test_resolving_again_changes_nothing():
    once = config.resolve(yaml.safe_load((ROOT / "config.yaml").read_text()), ATTACKS).values
    assert config.resolve(once, ATTACKS).values == once


def test_order_of_keys_is_the_schemas_and_the_users_for_names():
    first = values(
        "{seeds: [1], study: a, techniques: {b: {}, a: {}}, splits: {seed: 1, count: 8}}"
    )
    assert list(first)[:5] == ["study", "seed", "results", "dataset", "import"]
    assert list(first["techniques"]) == ["b", "a"]
    assert list(first["splits"]) == ["count", "seed", "reserve"]


def test_the_users_config_is_not_changed():
    given = {"techniques": {"none": None}, "training": {"checkpoints": [60, 10]}}
    before = copy.deepcopy(given)
    config.resolve(given, ATTACKS)
    assert given == before


def test_all_errors_at_once():
    text = """
    training: {epochs: many, epoch: 3}
    attackers: {nnoe: [crop]}
    splits: {count: 7}
    """
    assert errors(text) == [
        "splits.count: expected an even integer >= 4 (splits come in complementary pairs), got 7",
        'training.epoch: unknown key; did you mean "epochs"?',
        'training.epochs: expected an integer >= 1, got "many"',
        'attackers.nnoe: no such technique; did you mean "none"?',
    ]


# One mistake each: exactly one line, which begins with the key and holds the words.
MISTAKES = [
    ("study: a b", "study", "letters, digits"),
    ("study: 7", "study", "in quotes"),
    ("study: 2026-01-01", "study", "put it in quotes"),
    ("seed: -1", "seed", "an integer >= 0, got -1"),
    ("sed: 1", "sed", 'did you mean "seed"?'),
    ("epochs: 3", "epochs", 'did you mean "training.epochs"?'),
    ("zzzz: 3", "zzzz", "valid keys: study, "),
    ("on: 3", "True", "put it in quotes"),
    ("results: ''", "results", "text"),
    ("dataset: cifar10", "dataset", 'a mapping, got "cifar10"'),
    ("dataset: {source: cifar-10}", "dataset.source", 'did you mean "cifar10"?'),
    ("dataset: {source: npz}", "dataset.path", "missing; dataset.source is npz"),
    ("dataset: {classes: [1]}", "dataset.classes", "at least 2"),
    ("dataset: {classes: [1, -1]}", "dataset.classes[1]", "class name or an index"),
    ("dataset: {classes: [1, yes]}", "dataset.classes[1]", "got true"),
    ("dataset: {per_class: 0}", "dataset.per_class", "an integer >= 1 or null, got 0"),
    ("splits: {count: 5}", "splits.count", "even"),
    ("splits: {count: 4}", "splits.count", "use 8 or more splits, got 4"),
    ("splits: {reserve: 1}", "splits.reserve", "from 0 to 0.9, got 1.0"),
    ("splits: {reserve: .nan}", "splits.reserve", "finite"),
    ("seeds: []", "seeds", "at least 1"),
    ("seeds: 3", "seeds", "got 3"),
    ("seeds: [1, 2, 1]", "seeds", "1 is listed twice"),
    ("seeds: [1, 1.5]", "seeds[1]", "an integer >= 0, got 1.5"),
    ("protocols: {leave_one_out: false}", "protocols", "no protocol is on"),
    ("protocols: {fixed_split: {split: 16, seeds: [1]}}", "protocols.fixed_split.split", "0 to 15"),
    ("protocols: {fixed_split: {split: 0}}", "protocols.fixed_split.seeds", "missing"),
    ("protocols: {fixed_split: {split: 0, seeds: []}}", "protocols.fixed_split.seeds", "at least"),
    ("protocols: {fixed_split: 3}", "protocols.fixed_split", "such as {split: 0"),
    ("model: {name: resnet81}", "model.name", "package.module:function"),
    ("model: {widths: [1, 2, 3]}", "model.blocks", "model.widths has 3, this has 2"),
    ("training: {checkpoints: [10, 61]}", "training.checkpoints", "checkpoint 61 beyond"),
    ("training: {checkpoints: [10, 10]}", "training.checkpoints", "10 is listed twice"),
    ("training: {epochs: 20}", "training.checkpoints", "30 and 60 beyond the last epoch, 20"),
    ("training: {learning_rate: 1e-3x}", "training.learning_rate", "a number > 0"),
    ("training: {learning_rate: 1e999}", "training.learning_rate", "a number > 0"),
    ("training: {best: true}", "training.best", "set splits.reserve"),
    ("training: {best: 1}", "training.best", "true or false, got 1"),
    ("training: {warmup: 60}", "training.warmup", "leaves nothing"),
    ("training: {schedule: step}", "training.milestones", "needs training.milestones"),
    ("training: {schedule: step, milestones: [60]}", "training.milestones", "not before the last"),
    ("training: {momentum: 0}", "training.nesterov", "needs a momentum"),
    ("training: {dropout: 0.1}\nmodel: {name: 'a:b'}", "training.dropout", "model.parameters"),
    ("augmentations: {crop: {pad: 1}}", "augmentations.crop.pad", 'did you mean "padding"?'),
    ("augmentations: {cutout: {scale: [0.3]}}", "augmentations.cutout.scale", "two numbers"),
    ("augmentations: {cutout: {scale: [0.3, 0.1]}}", "augmentations.cutout.scale", "[smallest"),
    ("augmentations: {cutout: {value: 256}}", "augmentations.cutout.value", "0 to 255, mean"),
    ("augmentations: {cutout: {value: men}}", "augmentations.cutout.value", 'mean "mean"?'),
    ("techniques: {}", "techniques", "at least one technique"),
    ("techniques: {a/b: {}}", "techniques.a/b", "file name"),
    ("techniques: {.a: {}}", "techniques..a", "starts with a letter"),
    ("techniques: {no: {}}", "techniques.False", '"no", "off" or "false"'),
    ("techniques: {1: {}}", "techniques.1", 'in quotes: "1"'),
    ("techniques: {a: [crop]}", "techniques.a", "{augmentations: [crop, mirror]}"),
    ("techniques: {a: {augmentations: crop}}", "techniques.a.augmentations", "such as [crop"),
    (
        "techniques: {a: {augmentations: [mirorr]}}",
        "techniques.a.augmentations[0]",
        'did you mean "mirror"?',
    ),
    (
        "techniques: {a: {augmentations: [{crop: {padding: x}}]}}",
        "techniques.a.augmentations[0].crop.padding",
        'an integer >= 0, got "x"',
    ),
    (
        "techniques: {a: {augmentations: [{cutout: {ratio: [2, 1]}}]}}",
        "techniques.a.augmentations[0].cutout.ratio",
        "[smallest, largest], got [2.0, 1.0]",
    ),
    (
        "techniques: {a: {augmentations: [{crop: {}, mirror: {}}]}}",
        "techniques.a.augmentations[0]",
        "one augmentation with its parameters",
    ),
    (
        "techniques: {mine: {training: {weight_decay: heavy}}}",
        "techniques.mine.training.weight_decay",
        'a number >= 0, got "heavy"',
    ),
    (
        "techniques: {mine: {training: {weight_decai: 1}}}",
        "techniques.mine.training.weight_decai",
        'did you mean "weight_decay"?',
    ),
    (
        "techniques: {mine: {training: {epochs: 20}}}",
        "techniques.mine.training.epochs",
        "give techniques.mine.training.checkpoints too",
    ),
    (
        "techniques: {mine: {training: {checkpoints: [70]}}}",
        "techniques.mine.training.checkpoints",
        "beyond the last epoch, 60",
    ),
    (
        "techniques: {mine: {training: {evaluate_every: 2}}}",
        "techniques.mine.training.evaluate_every",
        "only for all as training.evaluate_every",
    ),
    ("techniques: {mine: {training: {best: yes}}}", "techniques.mine.training.best", "reserve"),
    ("compute: {device: gpu}", "compute.device", "auto, cpu or cuda"),
    ("extraction: {queries: [mirror]}", "extraction.queries", "identity as the first query"),
    ("extraction: {queries: [identity, shift]}", "extraction.queries[1]", "shift(dx,dy)"),
    ("attacks: {lira_online: }", "attacks.lira_online.method", "missing"),
    ("attacks: {lira_online: {method: lirra}}", "attacks.lira_online.method", 'mean "lira"?'),
    (
        "attacks: {lira_online: {method: lira, varianc: fixed}}",
        "attacks.lira_online.varianc",
        'did you mean "variance"?',
    ),
    (
        "attacks: {lira_online: {method: lira, variance: fix}}",
        "attacks.lira_online.variance",
        "per_example or fixed",
    ),
    ("attacks: {loss: {method: threshold}}", "metrics.headline_attack", "attacks: loss"),
    ("attacks: {member: {method: lira}, lira_online: {method: lira}}", "attacks.member", "taken"),
    ("attackers: martix", "attackers", 'did you mean "matrix"?'),
    ("attackers: {crop: [nnoe]}", "attackers.crop[0]", 'did you mean "none"?'),
    ("attackers: {crop: none}", "attackers.crop", "a list of technique names"),
    ("calibration_models: 15", "calibration_models", "14 shadow models"),
    ("metrics: {headline_attack: lira_onlin}", "metrics.headline_attack", 'mean "lira_online"?'),
    ("metrics: {headline_fpr: 0.05}", "metrics.headline_fpr", "0.1, 0.01, 0.001 or 0.0001"),
    ("figures: {formats: [jpeg]}", "figures.formats[0]", "svg, png or pdf"),
    ("figures: {dpi: 99999999999999999999}", "figures.dpi", "below 2^63"),
]


@pytest.mark.parametrize(("text", "key", "words"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_each_mistake_is_one_line_at_its_key(text, key, words):
    lines = errors(text)
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"{key}: ")
    assert words in lines[0]


def test_long_and_strange_values_stay_on_one_line():
    (line,) = errors(yaml.safe_dump({"model": {"name": "a\n" * 500}}))
    assert len(line) < 200
    (line,) = errors(yaml.safe_dump({"se\ned": 1}))
    assert line.startswith('"se\\ned": unknown key')


def test_a_finding_that_rests_on_a_wrong_key_is_not_reported():
    assert len(errors("{training: {epochs: many, checkpoints: [100]}}")) == 1
    assert len(errors("{splits: {count: many}, calibration_models: 40}")) == 1
    assert len(errors("{techniques: {a: 3, b: {}}, attackers: {a: [b]}}")) == 1


def test_the_label_names_the_file():
    line = config.resolve({"seed": "x"}, label="mine.yaml").errors[0]
    assert line == 'mine.yaml: seed: expected an integer >= 0, got "x"'


def test_without_known_attacks_any_method_goes():
    resolved = config.resolve({"attacks": {"lira_online": {"method": "new", "depth": 3}}})
    assert resolved.errors == []
    assert resolved.values["attacks"] == {"lira_online": {"method": "new", "depth": 3}}


def test_attack_parameters_get_their_defaults():
    entry = values("{attacks: {lira_online: {online: 'true', method: lira}}}")["attacks"]
    assert list(entry["lira_online"])[:2] == ["method", "online"]
    assert entry["lira_online"]["online"] is True
    assert entry["lira_online"]["variance"] == "per_example"


@pytest.mark.parametrize("text", ["1e-3", "'0.001'", "1.0e-3", "0.001"])
def test_numbers_as_yaml_may_give_them(text):
    assert values(f"training: {{weight_decay: {text}}}")["training"]["weight_decay"] == 0.001


@pytest.mark.parametrize("text", ["20", "'20'", "20.0", "2e1"])
def test_integers_as_yaml_may_give_them(text):
    epochs = values(f"training: {{epochs: {text}, checkpoints: [{text}]}}")["training"]
    assert (epochs["epochs"], epochs["checkpoints"]) == (20, [20])
    assert type(epochs["epochs"]) is int


def test_numbers_have_one_form():
    assert type(values("training: {weight_decay: 0}")["training"]["weight_decay"]) is float
    assert values("training: {checkpoints: [60, 0, 5]}")["training"]["checkpoints"] == [0, 5, 60]


def test_values_of_the_command_line_are_text():
    # What Snakemake makes of --config 'training={...}' (yaml.BaseLoader).
    text = "{training: {best: 'false', gradient_clip: 'null'}, techniques: {a: 'false', b: ''}}"
    given = yaml.load(text, Loader=yaml.BaseLoader)
    given["techniques"]["b"] = None
    resolved = config.resolve(given)
    assert resolved.errors == []
    assert resolved.values["training"]["best"] is False
    assert resolved.values["training"]["gradient_clip"] is None
    assert list(resolved.values["techniques"]) == ["b"]


def test_empty_sections_and_techniques_are_empty_mappings():
    found = values("techniques:\n  none:\n  crop: {augmentations: [{crop: }]}\ntraining:\n")
    assert found["techniques"]["none"] == {"augmentations": [], "training": {}}
    assert found["techniques"]["crop"]["augmentations"] == [{"crop": {}}]
    assert found["training"]["epochs"] == 60


def test_overrides_hold_what_is_given_only():
    found = values("techniques: {a: {training: {mixup: 1, checkpoints: [60, 1]}}}")
    assert found["techniques"]["a"]["training"] == {"checkpoints": [1, 60], "mixup": 1.0}


def test_false_leaves_an_entry_out():
    text = "{techniques: {none: {}, crop: false}, attacks: {lira_online: {method: lira}, b: false}}"
    found = values(text)
    assert list(found["techniques"]) == ["none"]
    assert list(found["attacks"]) == ["lira_online"]
    assert errors("{techniques: {none: {}, crop: false}, attackers: {none: [crop]}}") == [
        'attackers.none[0]: no technique "crop"; techniques: none'
    ]


def test_more_seeds_make_up_for_few_splits():
    assert errors("{splits: {count: 6}, seeds: [0, 1]}") == []


@pytest.mark.parametrize(
    ("attack", "more", "wanted", "each"),
    [
        ("{method: lira}", "", 8, 1),
        ("{method: lira, variance: fixed}", "", 8, 1),
        ("{method: lira, variance: fixed, online: false}", "", 8, 1),
        ("{method: ye_reference}", "", 8, 1),
        ("{method: rmia}", "", 8, 1),
        ("{method: bertran}", ", seeds: [0, 1]", 8, 2),
        ("{method: lira}", ", seeds: [0, 1]", None, 0),
        ("{method: rmia}", ", splits: {count: 6, reserve: 0.1}", None, 0),
        ("{method: threshold}", "", None, 0),
        ("{method: watson}", "", None, 0),
    ],
)
def test_too_few_splits_for_an_attack(attack, more, wanted, each):
    """6 splits: 4 without the target's pair, 2 where a shadow model is attacked in its stead."""
    splits = "" if "splits" in more else ", splits: {count: 6}"
    found = errors(f"{{attacks: {{a: {attack}}}, metrics: {{headline_attack: a}}{splits}{more}}}")
    assert found == (
        []
        if wanted is None
        else [
            f'splits.count: attack "a" has {each} IN and {each} OUT shadow models of a sample '
            f"where thresholds are set; use {wanted} or more splits, got 6"
        ]
    )


def test_warnings():
    found = warnings(
        "{splits: {count: 6}, attacks: {a: {method: watson}}, metrics: {headline_attack: a},"
        " dataset: {download: true, label_column: y},"
        " model: {parameters: {a: 1}}, training: {milestones: [3]}}"
    )
    assert [line.split(": ")[0] for line in found] == [
        "splits.count",
        "dataset.download",
        "dataset.label_column",
        "model.parameters",
        "training.milestones",
    ]


def test_data_warnings():
    found = config.resolve({}).values
    assert config.data_warnings(found, 60_000) == []
    assert config.data_warnings(found, 2000) == []
    (line,) = config.data_warnings(found, 1998)
    assert line.startswith("config.yaml: metrics.headline_fpr: ")
    assert "needs 1000" in line
    assert "smallest usable one is 0.01" in line
    found["splits"]["reserve"] = 0.5
    assert len(config.data_warnings(found, 2000)) == 1
    found = values(
        "{training: {batch_size: 4096}, techniques: {a: {training: {batch_size: 2000}}}}"
    )
    assert len(config.data_warnings(found, 6000)) == 1


def test_load_finds_keys_given_twice(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("training:\n  epochs: 60\n  epochs: 70\nseed: 1\ntechniques: {a: {}, a: {}}\n")
    assert config.load(path).errors == [
        f"{path}: training.epochs: given twice, in lines 2 and 3; keep one",
        f"{path}: techniques.a: given twice, in lines 5 and 5; keep one",
    ]


def test_load_of_an_empty_file_is_the_default_study(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# nothing yet\n")
    assert config.load(path) == config.resolve({})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [1", "no valid YAML in line"),
        (b"a: b: c", "no valid YAML in line 1"),
        (b"- a", "at the top"),
        (b"\xff\xfe\x00a", "cannot be read"),
        (b"x: 2026-99-99", "no valid YAML"),
    ],
)
def test_load_of_what_is_no_config(tmp_path, content, words):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        config.load(path)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_are_named_before_anything_runs(tmp_path):
    texts = {"good": "seed: 1", "empty": "", "broken": "a: [1", "twice": "seed: 1\nseed: 2"}
    paths = {name: str(tmp_path / f"{name}.yaml") for name in (*texts, "gone")}
    for name, text in texts.items():
        Path(paths[name]).write_text(text)
    lines = __main__.unreadable(list(paths.values()))
    assert [line.split(":")[0] for line in lines] == [
        paths[name] for name in ("empty", "broken", "twice", "gone")
    ]


def test_an_unknown_palette_is_found_before_models_are_trained():
    found = config.resolve({"figures": {"palette": "viridiss"}}).errors
    assert found == [
        "config.yaml: figures.palette: expected colorblind or a colour map such as tab10, "
        'got "viridiss"; did you mean "viridis"?'
    ]
    assert not config.resolve({"figures": {"palette": "viridis"}}).errors


def test_load_of_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"gone\.yaml"):
        config.load(tmp_path / "gone.yaml")


def test_the_module_loads_without_heavy_libraries():
    code = "import sys, miagap.config; print([m for m in sys.modules if '.' not in m])"
    modules = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "workflow")},
    ).stdout
    for heavy in ("torch", "pandas", "numpy", "scipy", "matplotlib"):
        assert f"'{heavy}'" not in modules
