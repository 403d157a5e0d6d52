"""Per-sample results: by technique and seed, stability between them, images."""

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import beta, spearmanr

import synthetic_study
from miagap import exposure, summary, tables
from miagap.figures import Style, images

RNG = np.random.default_rng(0)
N = 200


def write_scores(folder, seeds=(0, 1), splits=6, lost=()):
    """Write scores of targets that rank samples by number, with noise; return the files."""
    paths = []
    for seed in seeds:
        for split in range(splits):
            member = RNG.random(N) < 0.5
            scores = (np.arange(N) / 20 * member + RNG.normal(0, 1, N)).astype(np.float32)
            scores[list(lost)] = np.nan
            path = folder / f"seed{seed}-split{split}.scores.parquet"
            pq.write_table(
                pa.table({"sample_id": np.arange(N), "member": member, "lira": scores}), path
            )
            paths.append(str(path))
    return paths


def exposed(folder, technique="none", **settings):
    paths = write_scores(folder, **settings)
    reserve = np.arange(N) >= 190
    return exposure.of_files(paths, "lira", reserve, 0.1, 0.95, {"technique": technique})


def test_rows_for_all_seeds_and_for_each(tmp_path):
    frame = exposed(tmp_path).to_pandas()
    assert len(frame) == 3 * N
    assert frame["seed"].isna().sum() == N and set(frame["seed"].dropna()) == {0, 1}
    every = frame[frame["seed"].isna()].set_index("sample_id")
    parts = [frame[frame["seed"] == s].set_index("sample_id") for s in (0, 1)]
    assert (every["n_in"] == parts[0]["n_in"] + parts[1]["n_in"]).all()
    assert every["rank_in"][190:].isna().all()
    assert every["rank_in"][:190].corr(pd.Series(np.arange(190.0))) > 0.5


def test_one_seed_has_no_rows_of_its_own(tmp_path):
    assert exposed(tmp_path, seeds=(3,)).num_rows == N


def test_samples_without_a_score_count_in_no_target(tmp_path):
    frame = exposed(tmp_path, seeds=(0,), lost=(5,)).to_pandas()
    assert frame.loc[5, ["n_in", "n_out", "found"]].tolist() == [0, 0, 0]
    assert np.isnan(frame.loc[5, "rank_in"])
    scores = np.array([[3.0, np.nan, 1.0, 2.0], [np.nan, 5.0, 4.0, 1.0]])
    member = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], bool)
    found = summary.vulnerability(scores, member, ~np.isnan(scores))
    assert found["n_in"].tolist() == [1, 1, 0, 0] and found["n_out"].tolist() == [0, 0, 2, 2]
    assert found["score_in"][:2].tolist() == [3.0, 5.0]


def test_halves_hold_whole_pairs_and_give_the_mean_rank_together(tmp_path):
    paths = write_scores(tmp_path, seeds=(0,), splits=8)
    table = exposure.of_files(paths, "lira", np.zeros(N, bool), 0.1, 0.95, {"technique": "none"})
    frame = table.to_pandas()
    for name, splits in zip(exposure.HALVES, ((0, 1, 4, 5), (2, 3, 6, 7)), strict=True):
        files = [paths[split] for split in splits]
        own = exposure.of_files(files, "lira", np.zeros(N, bool), 0.1, 0.95, {"technique": "none"})
        expected = own.to_pandas()["rank_in"]
        np.testing.assert_allclose(frame[name], expected, equal_nan=True)


def test_models_of_one_split_are_halved_by_seed(tmp_path):
    paths = write_scores(tmp_path, seeds=(1, 2, 3), splits=1)
    table = exposure.of_files(paths, "lira", np.zeros(N, bool), 0.1, 0.95, {"technique": "none"})
    frame = table.to_pandas()
    alone = frame[frame["seed"] == 2]["rank_in"].to_numpy()
    every = frame[frame["seed"].isna()]
    np.testing.assert_allclose(every[exposure.HALVES[1]], alone, equal_nan=True)
    assert frame[frame["seed"] == 2][exposure.HALVES[0]].isna().all()


def test_stability_by_hand(tmp_path):
    (tmp_path / "b").mkdir()
    frame = pd.concat([exposed(tmp_path).to_pandas(), exposed(tmp_path / "b", "crop").to_pandas()])
    found = exposure.stability(frame, 0.95)
    assert found["compared"].tolist() == ["halves", "halves", "techniques", "seeds", "seeds"]
    assert found["second"].tolist()[2:] == ["crop", "none, seed 1", "crop, seed 1"]
    found = found[2:].reset_index(drop=True)
    common = frame[frame["seed"].isna()]
    a, b = (common[common["technique"] == t]["rank_in"].to_numpy()[:190] for t in ("none", "crop"))
    row = found.iloc[0]
    assert row["spearman"] == pytest.approx(spearmanr(a, b).statistic)
    assert row["spearman_lo"] < row["spearman"] < row["spearman_hi"]
    assert row["top"] == 2 and row["n_samples"] == 190
    shared = len(set(np.argsort(-a, kind="stable")[:2]) & set(np.argsort(-b, kind="stable")[:2]))
    assert row["jaccard"] == pytest.approx(shared / (4 - shared))
    high = beta.ppf(0.975, shared + 1, 2 - shared) if shared < 2 else 1.0
    assert row["jaccard_hi"] == pytest.approx(high / (2 - high))


def test_spearman_interval_covers():
    """In 95% of samples of a normal pair with known rank correlation, within 3 errors."""
    rng = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(0.6 / 2)
    hits = 0
    for _ in range(400):
        x = rng.normal(size=150)
        y = 0.6 * x + 0.8 * rng.normal(size=150)
        low, high = exposure.spearman_interval(spearmanr(x, y).statistic, 150, 0.95)
        hits += low < truth < high
    assert abs(hits / 400 - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 400)


def test_table_of_stability(tmp_path):
    study = synthetic_study.study(splits=4, replicates=50)
    given = dataclasses.replace(study, vulnerability=exposed(tmp_path).to_pandas())
    table = tables.build("stability", given)
    assert table.display["Second"].tolist() == ["none, the other half", "none, seed 1"]
    assert "[" in table.display["Spearman's ρ"][0]
    assert "Stability" in tables.to_markdown(table)


def test_images_are_those_of_the_table(tmp_path):
    frame = exposed(tmp_path, seeds=(0,)).to_pandas()
    most, least = exposure.extremes(frame, 10)
    assert most["found_share"].min() >= least["found_share"].max()
    pool = RNG.integers(0, 256, (N, 6, 6, 3), dtype=np.uint8)
    labels = np.arange(N) % 4
    names = ["cat", "dog", "a very long name of a class", "car"]
    figure = images.vulnerable(frame, ["none"], pool, labels, names, "lira", 0.1, Style())
    assert len(figure.axes) == 20
    for axes, sample in zip(figure.axes, [*most.itertuples(), *least.itertuples()], strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), pool[sample.sample_id])
        name, count = axes.get_xlabel().split("\n")
        assert names[labels[sample.sample_id]].startswith(name.rstrip("…"))
        assert count == f"{sample.found}/{sample.n_in}"
