"""Histories, feedback and recording as the API shows them."""

from kshot.contracts import flywheel_bodies
from kshot.storage.feedback import NewFeedback
from kshot.storage.recording import Recording
from kshot.storage.revisions import Revision
from service import views


def revision(row: Revision) -> flywheel_bodies.Revision:
    """A line of an adapted model's history."""
    return flywheel_bodies.Revision(
        id=row.id,
        revision=row.revision,
        checkpoint=row.checkpoint,
        at=row.at,
        outcome=row.outcome,
        quality=row.quality,
        previous_quality=row.previous_quality,
        reason=row.reason,
    )


def feedback(row: NewFeedback) -> flywheel_bodies.Feedback:
    """Feedback, with what it says of the prediction it names."""
    told = views.observed(row.n_answered, row.n_correct, row.squared_error) if row.n_answered else None
    return flywheel_bodies.Feedback(
        id=row.id, model=row.adapted_model, prediction=row.prediction, n=row.n, correct=row.n_correct, observed=told
    )


def recording(row: Recording) -> flywheel_bodies.Recording:
    """A tenant's decision."""
    return flywheel_bodies.Recording(enabled=row.enabled, retention_days=row.retention_days, changed_at=row.changed_at)
