"""What was found in a video, in figures: what `fyc asl run --json` prints, and a worker sends home."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fyc.asl.run import Findings, Results


def summary(found: Findings, results: Results) -> dict[str, Any]:
    """What `fyc asl run --json` says of a video.

    Args:
        found: in the video.
        results: its files.
    """
    analysis, measures = found.analysis, found.analysis.measures
    return {
        "video": str(analysis.info.path),
        "frames": len(measures),
        "lost_frames": int((~analysis.seen).sum()),
        "mean_confidence": round(float(measures.confidence.mean()), 4),
        "most_faces": analysis.most_faces,
        "problem": analysis.problem,
        "events": [
            {"label": event.label, "start_s": round(event.start_s, 4), "end_s": round(event.end_s, 4)}
            for event in found.events
        ],
        "markers": [
            {"label": marker.label, "start_s": round(marker.start_s, 4), "end_s": round(marker.end_s, 4)}
            for marker in found.markers
        ],
        "model": None if found.about is None else {"data": found.about.data, "synthetic": found.about.synthetic},
        "files": {name: str(path) for name, path in vars(results).items() if path is not None},
    }
