"""A change reruns what depends on it and nothing else, shown by dry runs on a finished study."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from study_runs import STUDY, Sandbox, changed, copy_workflow

pytestmark = pytest.mark.xdist_group("finished")

FIGURES = {"figure", "figure_images"}
SHOWN = {"table", *FIGURES}
PER_SAMPLE = {"vulnerability", "collect_vulnerability"}
ATTACK = {"attack_leave_one_out", "attack_fixed_split"}
AFTER_ATTACK = {"collect", *PER_SAMPLE, *SHOWN}
AFTER_TRAIN = {"extract", "shadow_pool", *ATTACK, *AFTER_ATTACK}
EVERYTHING = {"dataset", "splits", "train", *AFTER_TRAIN}


def test_nothing_changed_reruns_nothing(finished: Sandbox) -> None:
    assert finished.plan(STUDY).jobs == []


def test_an_empty_folder_runs_everything(tmp_path: Path) -> None:
    plan = Sandbox(tmp_path).plan(STUDY)

    assert plan.stages == EVERYTHING
    assert len(plan.runs("train")) == 9


def test_order_of_keys_is_no_change(finished: Sandbox) -> None:
    assert finished.plan(dict(reversed(STUDY.items()))).jobs == []


def test_touching_results_reruns_nothing(finished: Sandbox, tmp_path: Path) -> None:
    sandbox = finished.copy(tmp_path)
    for path in sandbox.results(STUDY).rglob("*.*"):
        path.touch()

    assert sandbox.plan(STUDY).jobs == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("attacks/loss_threshold/statistic", "confidence"),
        ("attacks/lira_offline_fixed", {"method": "lira", "online": False}),
        ("metrics/confidence", 0.9),
        ("calibration_models", 1),
    ],
)
def test_attack_setting_reruns_attacks_and_what_follows(
    finished: Sandbox, path: str, value: object
) -> None:
    assert finished.plan(changed(STUDY, path, value)).stages == ATTACK | AFTER_ATTACK


@pytest.mark.parametrize(
    "technique",
    [
        {"augmentations": [{"crop": {"padding": 2}}]},
        {"augmentations": ["crop", "mirror"]},
        {"augmentations": ["crop"], "training": {"label_smoothing": 0.1}},
    ],
    ids=["augmentation parameter", "augmentation added", "training override"],
)
def test_changed_technique_reruns_that_technique(
    finished: Sandbox, technique: dict[str, object]
) -> None:
    plan = finished.plan(changed(STUDY, "techniques/crop", technique))

    assert plan.stages == {"train"} | AFTER_TRAIN
    for stage in {"train", "extract", "shadow_pool"} | ATTACK:
        assert plan.techniques(stage) == {"crop"}, stage


def test_common_augmentation_reruns_techniques_that_use_it(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "augmentations/crop/padding", 2))

    assert plan.techniques("train") == {"crop"}


def test_added_technique_trains_it_alone(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "techniques/mirror", {"augmentations": ["mirror"]}))

    assert plan.stages == {"train"} | AFTER_TRAIN
    for stage in {"train", "extract", "shadow_pool"} | ATTACK:
        assert plan.techniques(stage) == {"mirror"}, stage


def test_added_attacker_adds_attacks_only(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "attackers", "matrix"))

    assert plan.stages == ATTACK | {"collect", "table", "figure"}
    attackers = {(j.wildcards["technique"], j.wildcards["attacker"]) for j in plan.jobs[:4]}
    assert attackers == {("none", "crop"), ("crop", "none")}


def test_added_seed_trains_new_models_only(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "seeds", [0, 2]))

    assert plan.runs("train") == {f"seed2-split{split}" for split in range(8)}
    assert plan.runs("extract") == plan.runs("train")
    assert plan.stages == {"train"} | AFTER_TRAIN


def test_added_splits_train_new_models_only(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "splits/count", 16))

    assert plan.runs("train") == {f"seed0-split{split}" for split in range(8, 16)}
    assert plan.runs("extract") == plan.runs("train")
    assert plan.counts["train"] == 2
    assert plan.stages == {"splits", "train"} | AFTER_TRAIN


def test_added_fixed_split_target_leaves_the_pool_alone(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "protocols/fixed_split/seeds", [0, 1, 2]))

    # One job trains both targets beyond the pool; the old one it finds trained.
    assert plan.runs("train") == {"seed1-split0", "seed2-split0"}
    assert "shadow_pool" not in plan.stages
    assert "attack_leave_one_out" not in plan.stages


def test_added_checkpoint_retrains_at_most_the_models(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "training/checkpoints", [0, 8, 16]))

    assert plan.stages == {"train"} | AFTER_TRAIN
    assert "dataset" not in plan.stages


def test_removed_checkpoint_only_renews_what_shows_it(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "training/checkpoints", [16]))

    assert plan.stages == {"collect", "table", "figure"}


def test_added_query_extracts_again(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "extraction/queries", ["identity"]))

    assert plan.stages == AFTER_TRAIN


def test_figure_style_redraws_figures_only(finished: Sandbox) -> None:
    assert finished.plan(changed(STUDY, "figures/font_size", 12)).stages == FIGURES


def test_added_figure_format_draws_figures_only(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "figures/formats", ["png", "svg"]))

    assert plan.stages == FIGURES


def test_headline_attack_reruns_tables_and_figures(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "metrics/headline_attack", "loss_threshold"))

    assert plan.stages == PER_SAMPLE | SHOWN


def test_models_per_job_reruns_nothing(finished: Sandbox) -> None:
    assert finished.plan(changed(STUDY, "compute/models_per_job", 3)).jobs == []


def test_removed_models_renew_what_they_were_part_of(finished: Sandbox) -> None:
    # LiRA needs more splits than the six that are left.
    loss = {"loss_threshold": STUDY["attacks"]["loss_threshold"]}
    few = changed(changed(STUDY, "splits/count", 6), "attacks", loss)
    few = changed(few, "metrics/headline_attack", "loss_threshold")
    fewer_splits = finished.plan(few)
    assert fewer_splits.stages == {"splits", *AFTER_TRAIN} - {"extract"}

    fewer_targets = finished.plan(changed(STUDY, "protocols/fixed_split/seeds", [0]))
    assert fewer_targets.stages == {"attack_fixed_split", "collect", "table", "figure"}

    fewer_techniques = finished.plan(changed(STUDY, "techniques", {"none": {}}))
    assert fewer_techniques.stages == {"collect", "collect_vulnerability", *SHOWN}


def test_another_checkpoint_of_the_attacker_reruns_attacks(finished: Sandbox) -> None:
    plan = finished.plan(changed(STUDY, "attacker_checkpoint", "final"))
    early = {job.wildcards["checkpoint"] for stage in ATTACK for job in plan.of(stage)}
    assert early == {"0"}
    assert "shadow_pool" not in plan.stages


def test_saving_states_reruns_nothing(finished: Sandbox) -> None:
    assert finished.plan(changed(STUDY, "compute/resume_every", 5)).jobs == []


def test_dataset_setting_reruns_everything(finished: Sandbox) -> None:
    assert finished.plan(changed(STUDY, "dataset/per_class", 10)).stages == EVERYTHING


# --- changed code -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def elsewhere(finished: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """The finished study, seen by a fresh copy of the workflow in another place."""
    return Sandbox(finished.folder, copy_workflow(tmp_path_factory.mktemp("repository")))


@pytest.fixture
def edit(elsewhere: Sandbox) -> Iterator:
    """Append text to a file of the copied workflow; the test's end takes it away again."""
    before: dict[Path, str] = {}

    def append(name: str, text: str) -> None:
        path = elsewhere.repository / "workflow" / name
        before[path] = path.read_text(encoding="utf-8")
        path.write_text(before[path] + text, encoding="utf-8")

    yield append
    for path, text in before.items():
        path.write_text(text, encoding="utf-8")


def test_a_fresh_checkout_reruns_nothing(elsewhere: Sandbox) -> None:
    assert elsewhere.plan(STUDY).jobs == []


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("miagap/datasets/digits.py", EVERYTHING),
        ("miagap/augment/crop.py", {"train"} | AFTER_TRAIN),
        ("miagap/training/loop.py", {"train"} | AFTER_TRAIN),
        ("miagap/extraction.py", AFTER_TRAIN),
        ("miagap/attacks/lira.py", ATTACK | AFTER_ATTACK),
        ("miagap/metrics.py", ATTACK | AFTER_ATTACK),
        ("miagap/collect.py", {"collect", "table", "figure"}),
        ("miagap/figures/scatter.py", FIGURES),
        ("scripts/train.py", {"train"} | AFTER_TRAIN),
        ("scripts/table.py", {"table"}),
    ],
)
def test_changed_code_reruns_its_stage_and_what_follows(
    elsewhere: Sandbox, edit, name: str, stages: set[str]
) -> None:
    edit(name, "\nCHANGED = True\n")

    assert elsewhere.plan(STUDY).stages == stages


def test_comments_and_formatting_rerun_nothing(elsewhere: Sandbox, edit) -> None:
    for name in ("miagap/training/loop.py", "miagap/attacks/lira.py", "scripts/extract.py"):
        edit(name, "\n\n# A remark.\n")

    assert elsewhere.plan(STUDY).jobs == []
