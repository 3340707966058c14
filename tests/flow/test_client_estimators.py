"""The scikit-learn estimators, against the real service."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from kshot.client import FewShotClassifier, FewShotRegressor, NotFound

pytestmark = pytest.mark.flow

TEXTS = ["where is my card", "card has not come", "I want a refund", "give me my money back"]
LABELS = ["arrival", "arrival", "refund", "refund"]


@pytest.fixture(autouse=True)
def served(page_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSHOT_URL", page_url)


@pytest.mark.parametrize("estimator", [FewShotClassifier(), FewShotRegressor()])
def test_scikit_learn_finds_nothing_wrong(estimator: Any):
    """None of its checks is expected to fail; the one that is skipped wants SCIPY_ARRAY_API in the environment."""
    checks = check_estimator(estimator, on_skip=None)
    assert {check["check_name"] for check in checks if check["status"] != "passed"} <= {"check_array_api_input"}
    assert len(checks) > 40


def test_they_are_good_and_work_in_pipelines_and_searches():
    flowers, kinds = load_iris(return_X_y=True, as_frame=True)
    assert cross_val_score(make_pipeline(StandardScaler(), FewShotClassifier()), flowers, kinds, cv=3).mean() > 0.8
    patients, progress = load_diabetes(return_X_y=True)
    search = GridSearchCV(FewShotRegressor(), {"l2": [0.01, 0.1, 1.0]}, cv=3).fit(patients, progress)
    assert search.best_score_ > 0.4
    values, stds = search.best_estimator_.predict(patients[:3], return_std=True)
    assert values.shape == stds.shape == (3,) and (stds > 0).all()


def test_texts_are_classified():
    model = FewShotClassifier("intents").fit(TEXTS, LABELS)
    assert model.predict(["my new card is late"]).tolist() == ["arrival"]
    assert model.score(pd.Series(TEXTS), LABELS) == 1 and model.quality_.n == 4
    assert model.predict_proba(np.array(TEXTS)).sum(axis=1) == pytest.approx(1)


def drawing(ring: bool, shift: int) -> Image.Image:
    picture = Image.new("L", (64, 64), "white")
    pen = ImageDraw.Draw(picture)
    if ring:
        pen.ellipse((12 + shift, 12, 50, 52), outline="black", width=5)
    else:
        pen.line((12 + shift, 12, 50, 52), fill="black", width=5)
    return picture


def test_pictures_are_classified():
    pictures = [drawing(ring, shift) for ring in (True, False) for shift in (0, 3)]
    model = FewShotClassifier("glyphs").fit(pictures, [True, True, False, False])
    assert model.predict([drawing(False, 6), drawing(True, 6)]).tolist() == [False, True]
    assert model.predict([np.asarray(drawing(True, 6))]).tolist() == [True]
    assert model.predict(np.stack([np.asarray(drawing(False, 6))])).tolist() == [False]


def test_examples_are_added_and_bring_classes():
    model = FewShotClassifier("intents").partial_fit(TEXTS, LABELS, classes=["arrival", "refund", "wrong pin"])
    assert model.predict_proba(TEXTS).shape == (4, 3) and (model.predict_proba(TEXTS)[:, 2] == 0).all()
    first = model.model_id_
    model.partial_fit(["the pin is wrong", "it refuses my pin"], ["wrong pin"] * 2)
    assert model.model_id_ != first and model.predict(["pin refused"]).tolist() == ["wrong pin"]
    model.partial_fit(["hello there"], ["greeting"])
    assert model.classes_.tolist() == ["arrival", "greeting", "refund", "wrong pin"]


def test_labels_that_json_has_not_keep_their_meaning():
    model = FewShotClassifier().partial_fit(np.eye(4), [2.0, 2.0, 3.0, 3.0])
    model.partial_fit(10 + np.eye(4), [1.0] * 4)
    assert model.predict(np.vstack([np.eye(4), [[10, 10, 10, 11]]])).tolist() == [2.0, 2.0, 3.0, 3.0, 1.0]


def test_several_targets_are_predicted():
    inputs = np.random.default_rng(0).normal(size=(30, 3))
    targets = np.stack([inputs[:, 0], 2 * inputs[:, 1] - 1], axis=1)
    model = FewShotRegressor().partial_fit(inputs[:20], targets[:20]).partial_fit(inputs[20:], targets[20:])
    assert model.predict(inputs).shape == (30, 2) and model.score(inputs, targets) > 0.95


def test_a_pickle_holds_the_id_and_no_key(monkeypatch: pytest.MonkeyPatch):
    model = FewShotClassifier("intents").fit(TEXTS, LABELS)
    monkeypatch.setenv("KSHOT_KEY", "ksk_a_secret")
    stored = pickle.dumps(model)
    assert model.model_id_.encode() in stored and b"ksk_a_secret" not in stored and len(stored) < 2000
    assert pickle.loads(stored).predict(TEXTS).tolist() == LABELS
    assert not hasattr(clone(model), "model_id_")


def test_what_the_service_finds_wrong_is_a_value_error():
    with pytest.raises(ValueError, match=r"options\.l2"):
        FewShotClassifier(l2=-1.0).fit(np.eye(4), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="only 1 class"):
        FewShotClassifier("intents").fit(TEXTS, ["arrival"] * 4)
    with pytest.raises(ValueError, match=r"\[4, 3\]"):
        FewShotClassifier("intents").fit(TEXTS, LABELS[:3])
    with pytest.raises(NotFound):
        FewShotClassifier("nothing").fit(TEXTS, LABELS)
