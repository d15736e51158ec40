"""How well faces are measured and followed on synthetic heads, of which all is known. No other command needs this.

Every figure is of pictures that were drawn: it says nothing of sign language, and does not belong beside figures of
annotated corpora. The split `held-out` is for final figures; nothing may be tuned on it.
"""
