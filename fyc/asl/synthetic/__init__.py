"""Synthetic clips with known pose, expression and grammatical markers: the ground truth of the bench.

Everything that comes from here is synthetic, whatever its textures were taken from. Numbers that are measured on it say
nothing about ASL grammar, and do not belong beside those of annotated corpora.

`CORPORA` and `trial` give scripts, which are data; `Studio` renders them, `Stage` projects them, `observe` adds the
errors of a landmark network.
"""

from fyc.asl.synthetic.contrasts import CONTRASTS, Contrast
from fyc.asl.synthetic.corpora import CORPORA, Corpus
from fyc.asl.synthetic.observation import observe
from fyc.asl.synthetic.projection import FrameTruth, Projection, Stage
from fyc.asl.synthetic.render import Frame, Studio
from fyc.asl.synthetic.script import EVENTS, MARKERS, PARAMETERS, Quality, Script, Segment, Signer
from fyc.asl.synthetic.trials import TRIALS, trial

__all__ = [
    "CONTRASTS", "CORPORA", "EVENTS", "MARKERS", "PARAMETERS", "TRIALS", "Contrast", "Corpus", "Frame", "FrameTruth",
    "Projection", "Quality", "Script", "Segment", "Signer", "Stage", "Studio", "observe", "trial",
]  # fmt: skip
