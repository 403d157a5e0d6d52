from miagap import config


def test_an_empty_config_is_the_default_study():
    resolved = config.resolve({})
    assert resolved.errors == []
    assert resolved.warnings == []
    assert resolved.values["training"]["epochs"] == 60
    assert len(resolved.values["techniques"]) == 10


def test_all_errors_at_once():
    resolved = config.resolve({"training": {"epochs": "many", "epoch": 3}})
    assert resolved.errors == [
        'config.yaml: training.epoch: unknown key; did you mean "epochs"?',
        'config.yaml: training.epochs: expected an integer >= 1, got "many"',
    ]
