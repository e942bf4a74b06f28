import pandas as pd

from analysis.data_dimension import MEASURES, cross_checks, describe_in_words, geometric_checks
from analysis.probabilistic_pca import linear_answers
from study.geometric_dimension import ESTIMATORS
from tests.analysis.dataset_tables import MLE, TWONN, datasets_of, linear_trials, only


def test_every_estimate_says_what_it_measures() -> None:
    written = {(estimator.method, estimator.variant) for estimator in ESTIMATORS}
    assert written == set(MEASURES)
    assert len(set(MEASURES.values())) == len(MEASURES)
    strange = {"method": "strange", "variant": "new", "value": 1.0}
    found = geometric_checks(datasets_of(TWONN, strange)).set_index("method")
    assert found.loc["TwoNN", "measures"] == MEASURES["TwoNN", "linear fit"]
    assert found.loc["strange", "measures"] == ""
    assert found.loc["TwoNN", "value"] == 4.5


def test_two_studies_that_describe_the_same_data() -> None:
    one, two = datasets_of(TWONN, MLE), datasets_of(TWONN | {"sample_size": 400})
    assert len(geometric_checks(pd.concat([one, one]))) == 2
    assert len(geometric_checks(pd.concat([one, two]))) == 3


def test_cross_checks_put_all_answers_in_one_table() -> None:
    trials = linear_trials([{}, {"architecture": "dense-16", "family": "dense"}])
    estimates = pd.DataFrame(
        {
            "dataset": ["mine"] * 5,
            "beta": [1.0, 1.0, 1.0, 1.0, 2.0],
            "estimate": [8.0, 9.5, 14.0, None, None],
        }
    )
    other = {"dataset_fingerprint": "g", "dataset": "unused", **TWONN}
    found = cross_checks(trials, datasets_of(TWONN, MLE, other), estimates)
    assert set(found["dataset"]) == {"mine"}, "labels are those of the trials"
    assert (found["measures"].str.len() > 20).all()
    rows = found.set_index(["method", "variant"])
    assert len(rows) == 5
    twonn = rows.loc["TwoNN", "linear fit"]
    assert (twonn["value"], twonn["sample_size"]) == (4.5, 500)
    mle = rows.loc["MLE", "20 neighbours"]
    assert pd.isna(mle["value"])
    assert mle["note"] == "too few"
    exact = rows.loc["probabilistic PCA", "linear, gaussian, decoder variance 1.5, β = 1"]
    assert (exact["value"], exact["active_units"], exact["sample_size"]) == (3, 2, 1_000)
    vae = rows.loc["VAE", "β = 1, 3 of 4 groups saturated"]
    assert (vae["value"], vae["lowest"], vae["highest"]) == (9.5, 8.0, 14.0)
    assert pd.isna(rows.loc["VAE", "β = 2, 0 of 1 groups saturated"]["value"])
    assert found.loc[found["method"] != "VAE", "lowest"].isna().all()


def test_without_trials_all_that_is_described_is_shown() -> None:
    found = cross_checks(linear_trials([]), datasets_of(TWONN))
    assert found["dataset"].tolist() == ["described"]


def test_nothing_known_is_no_error() -> None:
    nothing, no_trials = datasets_of().iloc[:0], linear_trials([])
    estimates = pd.DataFrame({"dataset": [], "beta": [], "estimate": []})
    for trials in (no_trials, linear_trials([{"family": "dense"}])):
        for given_estimates in (None, estimates, estimates.astype(object)):
            found = cross_checks(trials, nothing, given_estimates)
            assert found.empty
            assert list(found.columns)[:4] == ["dataset", "method", "variant", "value"]
    assert linear_answers(no_trials, nothing).empty
    assert geometric_checks(nothing).empty
    row = only(cross_checks(linear_trials([{}]), nothing))
    assert "data describe" in row["note"]


def test_facts_in_words() -> None:
    words = describe_in_words(datasets_of(TWONN))
    assert "described (f): 1,000 training and 10 test images of 6" in words
    assert "mean 0.25, total variance 15.75" in words
    assert "8, 4, 2, 1, 0.5, 0.25\n" in words
    # 8/15.75 = 0.508; 8 + 4 + 2 = 14 (0.889), with 1: 0.952; with 0.5: 0.984
    assert "50% in 1, 90% in 4, 95% in 4, 99% in 6 of 6 components" in words
    long = describe_in_words(datasets_of(spectrum=list(range(20, 0, -1))))
    assert "20, 19, 18, 17, 16, 15, 14, 13, …" in long
    assert "share" not in describe_in_words(datasets_of(spectrum=[0.0, 0.0]))
