"""The example reaches what scikit-learn reaches on the same folds, and on shuffled targets nothing."""

import os
from pathlib import Path

import ch05_house_prices as house_prices
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from jaxdl.data import TableEncoder, k_fold, read_csv_table

REAL = Path(os.environ.get("JAXDL_TEST_DATA") or Path(__file__).parents[2] / "../shared/data")


def ridge_rmse(problem):
    """Of scikit-learn's Ridge, on the features and folds of the last recipe."""
    columns, y = house_prices.log_skewed(problem.columns), problem.target[:, 0].astype(np.float64)
    x = TableEncoder.fit(columns)(columns)[: len(y)].astype(np.float64)
    folds = k_fold(len(y), 5, seed=0)
    return house_prices.rmse(
        np.concatenate([Ridge(10).fit(x[train], y[train]).predict(x[valid]) - y[valid] for train, valid in folds])
    )


def rmse_of_shuffled_targets(problem, config):
    """Of the last recipe, as a share of what the mean for every row would give."""
    recipe = list(house_prices.recipes(config).values())[-1]
    shuffled = problem._replace(target=np.random.default_rng(0).permutation(problem.target))
    return house_prices.cross_validate(recipe, shuffled, config).rmse / problem.target.std()


def test_diabetes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config, problem = house_prices.Config(), house_prices.read_problem("diabetes")
    errors = house_prices.main(config)
    assert errors["rmse"] == pytest.approx(ridge_rmse(problem), rel=0.01)
    assert rmse_of_shuffled_targets(problem, config) > 0.98
    assert errors["book_rmse"] > 1.3 * errors["rmse"]
    printed = capsys.readouterr().out
    assert f"{errors['rmse']:.4g}" in printed
    assert "the mean for every row         75.53" in printed
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "predictions.png").stat().st_size > 10_000
    predictions = read_csv_table(folder / "submission.csv")
    assert predictions["Id"].tolist() == list(range(353, 442))
    truth = house_prices.load("diabetes", "test")["y"][:, 0]
    assert house_prices.rmse(predictions["Progression"] - truth) < 0.8 * truth.std()


def test_no_model_sees_the_targets_of_its_validation_rows():
    config, problem = house_prices.Config(num_folds=3, epochs=2), house_prices.read_problem("diabetes")
    recipe = list(house_prices.recipes(config).values())[-1]
    folds = list(k_fold(len(problem.target), 3, seed=0))
    other = problem.target.copy()
    other[folds[1][1]] = 1000
    before, after = (
        house_prices.cross_validate(recipe, problem._replace(target=y), config) for y in (problem.target, other)
    )
    np.testing.assert_array_equal(before.predictions[1], after.predictions[1])
    assert (before.predictions[0] != after.predictions[0]).all()
    for i, (train, valid) in enumerate(folds):
        np.testing.assert_array_equal(before.validation[valid], before.predictions[i, valid])
        assert before.fold_rmse[i] == house_prices.rmse(before.predictions[i, valid] - problem.target[valid, 0])
        assert abs(len(train) - 235) <= 1


def test_the_submission_is_the_mean_of_prices(tmp_path):
    problem = house_prices.Problem({}, np.zeros((1, 1)), "SalePrice", True, np.array([7, 9]))
    predictions = np.log([[5.0, 100, 1], [5.0, 300, 4]])  # [folds, rows], the first row has a target
    house_prices.write_submission(tmp_path / "new" / "s.csv", problem, predictions)
    assert (tmp_path / "new" / "s.csv").read_text() == "Id,SalePrice\n7,200.00\n9,2.50\n"


@pytest.mark.skipif(
    not (REAL / "kaggle_house/train.csv").is_file(),
    reason="needs the house prices: set JAXDL_TEST_DATA to a folder that has them in kaggle_house/",
)
def test_kaggle_house(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXDL_DATA", str(REAL))
    monkeypatch.chdir(tmp_path)
    config = house_prices.Config(data="kaggle_house", submission=tmp_path / "new" / "s.csv", plot=tmp_path / "p.png")
    problem = house_prices.read_problem(config.data)
    assert TableEncoder.fit(problem.columns)(problem.columns).shape == (2919, 331)
    errors = house_prices.main(config)
    assert errors["rmse"] == pytest.approx(ridge_rmse(problem), rel=0.03)
    assert errors["rmse"] <= 0.17
    assert errors["book_rmse"] ** 2 == pytest.approx(0.18, abs=0.01)  # D2L 5.7
    assert config.plot.stat().st_size > 10_000
    submission = read_csv_table(config.submission)
    sample = read_csv_table(REAL / "kaggle_house/sample_submission.csv")
    assert list(submission) == list(sample) == ["Id", "SalePrice"]
    np.testing.assert_array_equal(submission["Id"], sample["Id"])
    assert 50_000 < np.median(submission["SalePrice"]) < 300_000
    assert rmse_of_shuffled_targets(problem, config) > 0.98
