"""scikit-learn estimators on a kshot service (`pip install kshot[sklearn]`)."""


class FewShotClassifier:
    """In the making."""


class FewShotRegressor:
    """In the making."""
