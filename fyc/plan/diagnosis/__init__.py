"""What a training log says: the failure that came first and why, and the progress that was measured."""

from fyc.plan.diagnosis.diagnose import diagnose
from fyc.plan.diagnosis.progress import parse_progress, progress_of
from fyc.plan.diagnosis.report import Diagnosis, Edit, Evidence, Finding, Progress

__all__ = ["Diagnosis", "Edit", "Evidence", "Finding", "Progress", "diagnose", "parse_progress", "progress_of"]
