"""Models that a study does not keep go after extraction, and are not missed."""

import pytest
from study_runs import SMALLEST, Sandbox, changed

CONFIG = changed(
    {**SMALLEST, "study": "dropped", "attacks": {"loss": {"method": "threshold"}}},
    "extraction/keep_models",
    False,
) | {"metrics": {"headline_attack": "loss", "bootstrap": 100}}
METRICS = "results/dropped/tables/metrics.parquet"


@pytest.fixture(scope="module")
def dropped(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    sandbox = Sandbox(tmp_path_factory.mktemp("dropped"))
    sandbox.run(CONFIG, METRICS)
    return sandbox


def test_models_go_and_histories_and_logits_stay(dropped):
    results = dropped.results(CONFIG)
    assert not list(results.rglob("models/**/*.safetensors"))
    runs = CONFIG["splits"]["count"] * len(CONFIG["techniques"])
    checkpoints = len(CONFIG["training"]["checkpoints"])
    assert len(list(results.glob("models/*/*/history.parquet"))) == runs
    assert len(list(results.glob("logits/*/*/*.parquet"))) == runs * checkpoints


def test_a_second_run_has_nothing_to_do(dropped):
    assert dropped.plan(CONFIG, METRICS).counts == {}


def test_a_changed_attack_needs_no_models(dropped):
    plan = dropped.plan(changed(CONFIG, "metrics/bootstrap", 200), METRICS)
    assert plan.stages == {"attack_leave_one_out", "collect"}


def test_keeping_them_from_now_on_trains_nothing(dropped):
    assert dropped.plan(changed(CONFIG, "extraction/keep_models", True), METRICS).counts == {}


def test_a_changed_query_trains_again_what_it_must_ask(dropped):
    plan = dropped.plan(changed(CONFIG, "extraction/queries", ["identity", "mirror"]), METRICS)
    assert {"train", "extract"} <= plan.stages
